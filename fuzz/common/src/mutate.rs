//! Damages cases of the corpus: first what they mean, then their bytes.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::{
    Target,
    seeds::{Data, Form, Frame, Seed, Seeds},
};

/// The longest input.
const MAX: usize = 128 * 1024;

/// Numbers at which something may end.
const NUMBERS: [&str; 16] = [
    "0",
    "-0",
    "-1",
    "1.5",
    "1e2",
    "1e400",
    "-1e400",
    "1e-400",
    "255",
    "4294967296",
    "9007199254740993",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "0.1000000000000000055511151231257827",
    "123456789012345678901234567890",
];

/// What may stand where nobody thinks of it.
const TOKENS: [&[u8]; 34] = [
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\ud800",
    b"\\udc00\\ud83d",
    b"\\u0000",
    b"\\u00",
    b"\xff",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\0",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"\n\n",
    b"data: ",
    b"data:",
    b"event: error\n",
    b": ping\n\n",
    b"data: [DONE]\n\n",
    b"data: {\"error\":{\"message\":\"m\"}}\n\n",
    b"data: {\"type\":\"message_stop\"}\n\n",
    b"<html>",
    b"id: 1\nretry: 2\n",
];

/// Makes inputs for one target.
#[derive(Debug)]
pub struct Mutator<'a> {
    seeds: &'a Seeds,
    own: Vec<&'a Seed>,
}

impl<'a> Mutator<'a> {
    /// For a target.
    pub fn new(seeds: &'a Seeds, target: &Target) -> Self {
        Self { seeds, own: seeds.of(target) }
    }

    /// An input: the same one for the same two numbers.
    pub fn input(&self, seed: u64, index: u64) -> Vec<u8> {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index);
        if rng.u8(..) < 8 {
            let length = rng.usize(..300);
            return (0..length).map(|_| rng.u8(..)).collect();
        }
        let strange = rng.u8(..) < 16;
        let seed = match strange {
            true => rng.choice(&self.seeds.all),
            false => rng.choice(self.own.iter().copied()),
        };
        let Some(seed) = seed else { return Vec::new() };
        let structural = rng.u8(..) < 160;
        let mut bytes = if structural {
            let mut form = seed.form.clone();
            for _ in 0..rng.usize(1..4) {
                self.change(&mut form, &mut rng);
            }
            form.write()
        } else {
            seed.text.clone()
        };
        for _ in 0..rng.usize(usize::from(!structural)..4) {
            damage(&mut bytes, &self.own, &mut rng);
        }
        bytes.truncate(MAX);
        bytes
    }

    /// Changes what a seed means.
    fn change(&self, form: &mut Form, rng: &mut Rng) {
        match form {
            Form::Json(value) => self.change_value(value, rng),
            Form::Bytes(_) => {}
            Form::Frames(frames) if rng.bool() || frames.is_empty() => self.change_frames(frames, rng),
            Form::Frames(frames) => {
                let at = rng.usize(..frames.len());
                if let Some(Data::Json(value)) = frames.get_mut(at).map(|frame| &mut frame.data) {
                    self.change_value(value, rng);
                }
            }
        }
    }

    fn change_frames(&self, frames: &mut Vec<Frame>, rng: &mut Rng) {
        let at = rng.usize(..=frames.len());
        let other = rng.usize(..=frames.len());
        match rng.u8(..7) {
            0 if at < frames.len() => drop(frames.remove(at)),
            1 if at < frames.len() => frames.insert(other, frames[at].clone()),
            2 if at.max(other) < frames.len() => frames.swap(at, other),
            3 => frames.truncate(at),
            4 if at < frames.len() => {
                frames[at].end = ["\n\n", "\r\n\r\n", "\r\r", "\n", "", "\r\n\n"][rng.usize(..6)];
            }
            5 => {
                let text =
                    ["data: [DONE]", ": ping", "event: x", "data:", "data: {", "<p>", "data: 1\ndata: 2"];
                let data = Data::Text(text[rng.usize(..text.len())].to_owned());
                frames.insert(at, Frame { head: String::new(), data, end: "\n\n" });
            }
            _ => {
                // The end of another stream, or a piece of it.
                let Some(Form::Frames(others)) = rng.choice(&self.own).map(|seed| &seed.form) else { return };
                let from = rng.usize(..=others.len());
                if rng.bool() {
                    frames.truncate(at);
                    frames.extend_from_slice(&others[from..]);
                } else if let Some(frame) = others.get(from) {
                    frames.insert(at, frame.clone());
                }
            }
        }
    }

    fn change_value(&self, value: &mut Value, rng: &mut Rng) {
        let mut at = rng.usize(..size(value));
        let Some(node) = node_at(value, &mut at) else { return };
        match (rng.u8(..10), &mut *node) {
            (0, _) => *node = self.scalar(rng),
            (1, _) => *node = self.borrowed(rng),
            (2, _) => {
                let deep = if rng.u8(..) < 64 { 200 } else { 5 };
                for _ in 0..rng.usize(1..deep) {
                    let inner = node.take();
                    *node = if rng.bool() { json!([inner]) } else { json!({ (self.key(rng)): inner }) };
                }
            }
            (3 | 4, Value::Object(object)) if !object.is_empty() => {
                let key = object.keys().nth(rng.usize(..object.len())).cloned().unwrap_or_default();
                let taken = object.shift_remove(&key).unwrap_or_default();
                if rng.bool() {
                    object.insert(self.key(rng), taken);
                }
            }
            (5 | 6, Value::Object(object)) => {
                let value = if rng.bool() { self.borrowed(rng) } else { self.scalar(rng) };
                object.insert(self.key(rng), value);
            }
            (3, Value::Array(list)) if !list.is_empty() => drop(list.remove(rng.usize(..list.len()))),
            (4, Value::Array(list)) if !list.is_empty() => {
                let item = list[rng.usize(..list.len())].clone();
                let often = if rng.u8(..) < 16 { 300 } else { 4 };
                list.extend(std::iter::repeat_n(item, rng.usize(1..often)));
            }
            (5, Value::Array(list)) => list.reverse(),
            (6, Value::Array(list)) => list.push(self.borrowed(rng)),
            (7, Value::String(text)) => *text = text.repeat(rng.usize(..40)),
            (8, Value::String(text)) => {
                text.push_str(["\0", "\r\n", " ", "\u{2028}", "𝄞", "\"", "."][rng.usize(..7)])
            }
            (9, Value::String(text)) => *text = Value::from(text.as_str()).to_string(),
            _ => *node = self.scalar(rng),
        }
    }

    fn key(&self, rng: &mut Rng) -> String {
        rng.choice(&self.seeds.keys).cloned().unwrap_or_default()
    }

    fn scalar(&self, rng: &mut Rng) -> Value {
        match rng.u8(..8) {
            0 => Value::Null,
            1 => rng.bool().into(),
            2 => [json!([]), json!({}), json!(""), json!([null]), json!([{}]), json!({"": 0})]
                [rng.usize(..6)]
            .clone(),
            3 | 4 => serde_json::from_str(NUMBERS[rng.usize(..NUMBERS.len())]).unwrap_or_default(),
            _ => rng.choice(&self.seeds.words).cloned().into(),
        }
    }

    /// A piece of another seed.
    fn borrowed(&self, rng: &mut Rng) -> Value {
        let values = rng.choice(&self.own).map(|seed| seed.form.values()).unwrap_or_default();
        let Some(mut value) = rng.choice(values) else { return Value::Null };
        // A few steps down, so that pieces of all sizes come up.
        for _ in 0..rng.usize(..6) {
            let inner = match value {
                Value::Array(list) => rng.choice(list),
                Value::Object(object) => rng.choice(object.iter()).map(|(_, value)| value),
                _ => None,
            };
            value = inner.unwrap_or(value);
        }
        value.clone()
    }
}

/// Damages bytes.
fn damage(bytes: &mut Vec<u8>, others: &[&Seed], rng: &mut Rng) {
    let at = rng.usize(..=bytes.len());
    let end = (at + rng.usize(..=40)).min(bytes.len());
    match rng.u8(..10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
        1 if at < bytes.len() => bytes[at] = rng.u8(..),
        2 => drop(bytes.drain(at..end)),
        3 => bytes.extend_from_within(at..end),
        4 => bytes.truncate(at),
        5 => {
            // Behind a brace: as a key that is there twice, perhaps.
            let from = bytes.iter().skip(at).position(|byte| *byte == b'{').map(|place| at + place + 1);
            let keys: [&[u8]; 6] = [
                b"\"type\":1,",
                b"\"model\":2,",
                b"\"messages\":[],",
                b"\"role\":\"\",",
                b"\"id\":\"\",",
                b"\"x\":0,",
            ];
            let key = keys[rng.usize(..keys.len())];
            let place = from.unwrap_or(at);
            bytes.splice(place..place, key.iter().copied());
        }
        6 => {
            let number = NUMBERS[rng.usize(..NUMBERS.len())].as_bytes();
            let digit = |byte: &u8| byte.is_ascii_digit();
            if let Some(from) = bytes.iter().skip(at).position(digit).map(|place| at + place) {
                let length = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                bytes.splice(from..from + length, number.iter().copied());
            }
        }
        7 => {
            if let Some(other) = rng.choice(others) {
                let from = rng.usize(..=other.text.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other.text[from..]);
            }
        }
        _ => {
            let token = TOKENS[rng.usize(..TOKENS.len())];
            bytes.splice(at..at, token.iter().copied());
        }
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(object) => object.values().map(size).sum(),
        _ => 0,
    }
}

/// The value with this number, counted from the outside.
fn node_at<'a>(value: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|value| node_at(value, at)),
        Value::Object(object) => object.values_mut().find_map(|value| node_at(value, at)),
        _ => None,
    }
}
