//! What a file withstands.

use std::io::{Read, Write};

use proptest::prelude::*;
use serde_json::json;

use super::{contents::write_to, header::Cost, *};

/// Not what is shipped: tests derive many keys.
const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
const PASSPHRASE: &str = "correct horse battery staple";

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::with_cost(Vec::new(), PASSPHRASE, CHEAP).unwrap();
    sealer.write_all(bytes).unwrap();
    sealer.finish().unwrap()
}

/// What was handed out, and whether it ended well.
fn opened(file: &[u8], passphrase: &str) -> (Vec<u8>, Result<(), String>) {
    let mut out = Vec::new();
    let mut opener = match Opener::new(file, passphrase) {
        Ok(opener) => opener,
        Err(error) => return (out, Err(error.to_string())),
    };
    let ended = opener.read_to_end(&mut out).map(drop).map_err(|error| error.to_string());
    (out, ended)
}

fn contents(count: usize) -> Contents {
    let resources: Vec<_> = (0..count)
        .map(|number| json!({"kind": "llm", "name": format!("l{number}"), "model": "m".repeat(200)}))
        .map(|resource| resource.as_object().cloned().unwrap())
        .collect();
    let counts = [("llms".to_owned(), count as u64), ("users".to_owned(), 0)].into();
    let manifest = Manifest {
        server_version: "0.1.0".into(),
        created_at: crate::resource::now(),
        with_values: false,
        counts,
    };
    Contents { manifest, resources }
}

fn file(contents: &Contents) -> Vec<u8> {
    write_to(Sealer::with_cost(Vec::new(), PASSPHRASE, CHEAP).unwrap(), contents, || ()).unwrap()
}

#[test]
fn every_length_around_a_chunk_comes_back() {
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK - 7] {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let file = sealed(&bytes);
        assert_eq!(opened(&file, PASSPHRASE), (bytes, Ok(())), "{length}");
    }
}

#[test]
fn what_is_shipped_opens_what_it_has_sealed() {
    let contents = contents(3);
    let mut wrote = 0;
    let file = write(Vec::new(), PASSPHRASE, &contents, || wrote += 1).unwrap();
    assert_eq!((read(&file[..], PASSPHRASE, || wrote += 1).unwrap(), wrote), (contents, 6));
}

#[test]
fn nothing_shows_and_no_two_files_are_alike() {
    let (one, other) = (file(&contents(3)), file(&contents(3)));
    assert_ne!(one[30..], other[30..]);
    assert!(!String::from_utf8_lossy(&one).contains("llm"));
}

#[test]
fn another_passphrase_and_other_files_are_told_apart() {
    let file = file(&contents(1));
    let told = |file: &[u8], passphrase: &str| read(file, passphrase, || ()).unwrap_err().to_string();
    assert_eq!(told(&file, "wrong"), "the passphrase is wrong, or the backup is damaged");
    assert_eq!(told(b"kind: llm\nname: gpt", PASSPHRASE), "this is no backup: it does not begin as one");
    assert_eq!(told(b"", PASSPHRASE), "this is no backup: it does not begin as one");
    assert_eq!(told(&file[..20], PASSPHRASE), "the backup is cut off");
    let mut newer = file.clone();
    newer[13] = 2;
    assert!(told(&newer, PASSPHRASE).contains("format 2"));
    // A header that would take all of the memory there is.
    let mut greedy = file;
    greedy[14..18].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(told(&greedy, PASSPHRASE).contains("more memory or time"));
}

#[test]
fn a_manifest_that_counts_otherwise_is_refused() {
    let mut contents = contents(2);
    contents.manifest.counts.insert("secrets".to_owned(), 1);
    let error = read(&file(&contents)[..], PASSPHRASE, || ()).unwrap_err();
    assert!(error.to_string().contains("manifest"), "{error}");
    assert!(write(Vec::new(), PASSPHRASE, &contents, || ()).is_err());
}

#[test]
fn chunks_keep_their_places() {
    let bytes: Vec<u8> = (0..4 * CHUNK + 9).map(|at| (at / CHUNK) as u8).collect();
    let file = sealed(&bytes);
    let start = file.len() - (4 * (CHUNK + TAG) + 9 + TAG);
    let chunk = |number: usize| start + number * (CHUNK + TAG)..start + (number + 1) * (CHUNK + TAG);
    let mut swapped = file.clone();
    swapped[chunk(1)].copy_from_slice(&file[chunk(2)]);
    swapped[chunk(2)].copy_from_slice(&file[chunk(1)]);
    let mut repeated = file.clone();
    repeated[chunk(1)].copy_from_slice(&file[chunk(0)]);
    let without = [&file[..chunk(1).start], &file[chunk(2).start..]].concat();
    let without_last = file[..chunk(3).end].to_vec();
    let longer = [&file[..], &file[chunk(1)]].concat();
    for bad in [swapped, repeated, without, without_last, longer] {
        let (out, ended) = opened(&bad, PASSPHRASE);
        assert!(ended.is_err());
        assert!(bytes.starts_with(&out), "something else than what was sealed was handed out");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_anywhere_is_noticed(place in 0.0..1.0_f64, bit in 0_u8..8, count in 0_usize..600) {
        let contents = contents(count);
        let mut file = file(&contents);
        let at = ((file.len() as f64) * place) as usize;
        // Costs that are allowed are not tried out: they may take a GiB.
        prop_assume!(!(14..26).contains(&at));
        file[at] ^= 1 << bit;
        prop_assert!(read(&file[..], PASSPHRASE, || ()).is_err());
        let (out, ended) = opened(&file, PASSPHRASE);
        prop_assert!(ended.is_err() && out.len() % CHUNK == 0);
    }

    #[test]
    fn a_file_that_is_cut_off_is_noticed(place in 0.0..1.0_f64, count in 0_usize..600) {
        let contents = contents(count);
        let file = file(&contents);
        let at = ((file.len() as f64) * place) as usize;
        prop_assert!(read(&file[..at], PASSPHRASE, || ()).is_err());
    }

    #[test]
    fn rubbish_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes[..], PASSPHRASE, || ()).is_err());
    }
}
