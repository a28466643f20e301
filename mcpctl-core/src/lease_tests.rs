//! Leases that are what they seem, and texts that are not.

use proptest::prelude::*;
use ring::hmac;

use super::*;

fn claims() -> Claims {
    Claims {
        sub: "c".repeat(25),
        llm: "gpt".to_owned(),
        iat: 1_700_000_000,
        exp: 1_700_000_600,
        cnf: token_fingerprint("mcpctl_pat_x"),
    }
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A text with this header and these claims, properly signed by `key`.
fn signed(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let text = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.pair.sign(text.as_bytes()));
    format!("{text}.{signature}")
}

fn header(key: &SigningKey) -> Value {
    json!({"alg": "EdDSA", "typ": "lease+jwt", "kid": key.kid()})
}

#[test]
fn a_lease_says_what_was_signed() {
    let key = key();
    let lease = key.sign(&claims());
    assert_eq!(key.public().verify(&lease), Ok(claims()));
    assert_eq!(signed(&key, &header(&key), &json!(claims())), lease, "in this form and no other");
    assert!(lease.len() < 600, "{} bytes", lease.len());
    let longest = Claims { llm: "x".repeat(100), ..claims() };
    assert_eq!(key.public().verify(&key.sign(&longest)), Ok(longest));
}

#[test]
fn a_kept_key_signs_as_before() {
    let key = key();
    let again = SigningKey::from_pkcs8(key.pkcs8()).unwrap();
    assert_eq!((again.kid(), again.sign(&claims())), (key.kid(), key.sign(&claims())));
    assert!(SigningKey::from_pkcs8(&key.pkcs8()[1..]).is_err());
    assert!(SigningKey::from_pkcs8(b"").is_err());
    let shown = format!("{key:?}");
    assert!(shown.contains(key.kid()) && !shown.contains("pkcs8"), "{shown}");
}

#[test]
fn thumbprints_are_those_of_the_standard() {
    // RFC 8037, appendix A.3.
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    assert_eq!(thumbprint(x), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn fingerprints_are_of_the_whole_token() {
    // SHA-256 of "abc", FIPS 180-2.
    assert_eq!(token_fingerprint("abc"), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
    assert_ne!(token_fingerprint("abc"), token_fingerprint("abc "));
}

#[test]
fn keys_travel_as_a_jwk_set() {
    let (one, other) = (key(), key());
    let both = PublicKeys([one.public().0, other.public().0].concat());
    let set = both.to_jwks();
    assert_eq!(PublicKeys::from_jwks(&set).unwrap(), both);
    assert_eq!(both.verify(&one.sign(&claims())), Ok(claims()));
    assert_eq!(both.verify(&other.sign(&claims())), Ok(claims()));
    let shown = set.to_string();
    let private = URL_SAFE_NO_PAD.encode(&one.pkcs8()[16..48]);
    assert!(!shown.contains(&private) && !shown.contains("\"d\""), "{shown}");
    assert_eq!(set["keys"][0]["use"], "sig");
    assert_eq!(PublicKeys::from_jwks(&json!({"keys": []})).unwrap().to_jwks(), json!({"keys": []}));
}

#[test]
fn a_jwk_set_is_read_with_care() {
    let good = key().public().to_jwks()["keys"][0].clone();
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        PublicKeys::from_jwks(&json!({"keys": [changed]}))
    };
    for (name, value) in
        [("kty", "RSA"), ("kty", "oct"), ("crv", "X25519"), ("alg", "HS256"), ("alg", "none"), ("use", "enc")]
    {
        assert_eq!(with(name, json!(value)).unwrap(), PublicKeys::default(), "{name}: {value}");
    }
    for (name, value) in [
        ("x", json!("AAAA")),
        ("x", json!(null)),
        ("x", json!(format!("{}=", good["x"].as_str().unwrap()))),
        ("kid", json!("a")),
        ("kid", json!(null)),
        ("kid", key().public().to_jwks()["keys"][0]["kid"].clone()),
    ] {
        assert!(with(name, value.clone()).is_err(), "{name}: {value}");
    }
    for set in
        [json!(null), json!([]), json!({}), json!({"keys": {}}), json!({"keys": vec![good.clone(); 65]})]
    {
        assert!(PublicKeys::from_jwks(&set).is_err());
    }
    let twice = PublicKeys::from_jwks(&json!({"keys": [good, good]})).unwrap();
    assert_eq!(twice.0.len(), 1);
}

#[test]
fn another_key_signs_nothing() {
    let (ours, theirs) = (key(), key());
    let public = ours.public();
    assert_eq!(public.verify(&theirs.sign(&claims())), Err(Fault::UnknownKey));
    // With our key's id in it.
    assert_eq!(public.verify(&signed(&theirs, &header(&ours), &json!(claims()))), Err(Fault::Forged));
    // Our signature under other words.
    let lease = ours.sign(&claims());
    let other = ours.sign(&Claims { llm: "other".to_owned(), ..claims() });
    let (words, _) = other.rsplit_once('.').unwrap();
    let (_, signature) = lease.rsplit_once('.').unwrap();
    assert_eq!(public.verify(&format!("{words}.{signature}")), Err(Fault::Forged));
    assert_eq!(PublicKeys::default().verify(&lease), Err(Fault::UnknownKey));
}

#[test]
fn no_other_algorithm_counts() {
    let key = key();
    let public = key.public();
    for alg in ["none", "None", "NONE", "", "eddsa", "HS256", "ES256", "RS256", "Ed25519"] {
        let text = signed(&key, &json!({"alg": alg, "typ": "lease+jwt", "kid": key.kid()}), &json!(claims()));
        assert_eq!(public.verify(&text), Err(Fault::WrongKind), "{alg}");
    }
    // Without any signature.
    for alg in ["none", "EdDSA"] {
        let head = part(&json!({"alg": alg, "typ": "lease+jwt", "kid": key.kid()}));
        let text = format!("{head}.{}.", part(&json!(claims())));
        assert!(public.verify(&text).is_err(), "{alg}");
    }
    // The public key as the secret of an HMAC: under every form that somebody may take it in.
    let x = URL_SAFE_NO_PAD.encode(key.pair.public_key());
    for (alg, secret) in
        [("HS256", key.pair.public_key().as_ref()), ("HS256", x.as_bytes()), ("EdDSA", x.as_bytes())]
    {
        let head = part(&json!({"alg": alg, "typ": "lease+jwt", "kid": key.kid()}));
        let text = format!("{head}.{}", part(&json!(claims())));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
        assert!(public.verify(&format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))).is_err(), "{alg}");
    }
}

#[test]
fn other_tokens_are_no_leases() {
    let key = key();
    let public = key.public();
    for header in [
        json!({"alg": "EdDSA", "typ": "JWT", "kid": key.kid()}),
        json!({"alg": "EdDSA", "typ": "LEASE+JWT", "kid": key.kid()}),
        json!({"alg": "EdDSA", "kid": key.kid()}),
        json!({"alg": "EdDSA", "typ": "lease+jwt"}),
        json!({"alg": "EdDSA", "typ": "lease+jwt", "kid": key.kid(), "crit": ["b64"], "b64": false}),
        json!({"alg": "EdDSA", "typ": "lease+jwt", "kid": key.kid(), "jku": "https://example.com"}),
        json!({"alg": ["EdDSA"], "typ": "lease+jwt", "kid": key.kid()}),
        json!(null),
    ] {
        assert_eq!(
            public.verify(&signed(&key, &header, &json!(claims()))),
            Err(Fault::WrongKind),
            "{header}"
        );
    }
    let head = json!({"alg": "EdDSA", "typ": "lease+jwt", "kid": "another"});
    assert_eq!(public.verify(&signed(&key, &head, &json!(claims()))), Err(Fault::UnknownKey));
    // A field that occurs twice.
    let head = header(&key).to_string().replacen('{', r#"{"alg":"none","#, 1);
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), part(&json!(claims())));
    let signature = URL_SAFE_NO_PAD.encode(key.pair.sign(text.as_bytes()));
    assert_eq!(public.verify(&format!("{text}.{signature}")), Err(Fault::WrongKind));
}

#[test]
fn no_claim_may_be_missing() {
    let key = key();
    for name in ["sub", "llm", "iat", "exp", "cnf"] {
        let mut all = json!(claims());
        all.as_object_mut().unwrap().remove(name);
        assert_eq!(key.public().verify(&signed(&key, &header(&key), &all)), Err(Fault::Malformed), "{name}");
        let mut all = json!(claims());
        all[name] = json!({});
        assert_eq!(key.public().verify(&signed(&key, &header(&key), &all)), Err(Fault::Malformed), "{name}");
    }
    let fraction = json!({"sub": "a", "llm": "a", "iat": 1, "exp": 1e300, "cnf": "a"});
    assert_eq!(key.public().verify(&signed(&key, &header(&key), &fraction)), Err(Fault::Malformed));
}

#[test]
fn the_form_is_exact() {
    let key = key();
    let public = key.public();
    let lease = key.sign(&claims());
    let parts: Vec<&str> = lease.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{lease}") };
    for text in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        format!("{header}.{claims}"),
        format!("{lease}."),
        format!(".{lease}"),
        format!("{lease}.{signature}"),
        format!("{header}..{claims}.{signature}"),
        format!("{header}.{claims}..{signature}"),
        format!("{lease}="),
        format!("{lease}\n"),
        format!(" {lease}"),
        format!("Bearer {lease}"),
        format!("{header}.{claims}.{signature}{signature}"),
        format!("{header}.{claims}.\u{feff}{signature}"),
    ] {
        assert!(public.verify(&text).is_err(), "{text}");
    }
    let long = "a".repeat(MAX_LEN + 1);
    assert_eq!(public.verify(&long), Err(Fault::TooLong));
    assert_eq!(public.verify(&format!("{lease}{long}")), Err(Fault::TooLong));
    assert_eq!(public.verify(&"a".repeat(MAX_LEN)), Err(Fault::Malformed));
}

#[test]
fn no_byte_can_be_another() {
    let key = key();
    let (public, lease) = (key.public(), key.sign(&claims()));
    for at in 0..lease.len() {
        // Letters of base64 that differ in its last bits alone are among these.
        let is_last = lease[at + 1..].starts_with('.') || at + 1 == lease.len();
        let (own, bits) = (lease.as_bytes()[at], (0..7).map(|bit| 1 << bit));
        let others: Vec<u8> =
            if is_last { (0..=127).collect() } else { bits.map(|bit: u8| own ^ bit).collect() };
        for other in others.into_iter().filter(|other| *other != own) {
            let mut bytes = lease.clone().into_bytes();
            bytes[at] = other;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(public.verify(&changed).is_err(), "at {at}: {changed}");
        }
        assert!(public.verify(&lease[..at]).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn nothing_arbitrary_is_a_lease(text in r"\PC{0,200}(\.\PC{0,200}){0,4}") {
        let key = key();
        prop_assert!(key.public().verify(&text).is_err());
    }

    #[test]
    fn any_claims_come_back(sub in r"\PC{0,50}", llm in r"[a-z0-9-]{1,100}", iat: i64, exp: i64) {
        let key = key();
        let claims = Claims { sub, llm, iat, exp, cnf: token_fingerprint("x") };
        prop_assert_eq!(key.public().verify(&key.sign(&claims)), Ok(claims));
    }
}
