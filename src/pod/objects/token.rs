//! Tokens of service accounts (`serviceAccountToken` of a projected volume), as the TokenRequest API gives them and the kubelet keeps them fresh.
//!
//! ```text
//!  lib/service-account.key    made by whoever needs it first; for root alone
//!        │ ES256
//!        ▼
//!  header.claims.signature    bound to the pod, for an audience, until a moment; another one before that has come
//! ```
//!
//! There is no API server, so nothing on this machine takes such a token; a program finds in it who it is, and a server that is given the
//! key's public half can check it. No ServiceAccount is kept either: one of any name exists.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::identity;
use crate::error::{Error, Result};
use crate::lifecycle::At;
use crate::pod::dir::make_dirs;
use crate::pod::ground::pod_spec;
use crate::sys::file;

/// What a token says of its origin, and the audience that is meant where none is named.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// No token is used for longer, however long it is valid (`pkg/kubelet/token/token_manager.go`).
const OLDEST_MS: u64 = 24 * 3600 * 1000;
/// What stands before the point in the DER of a public key of P-256 (RFC 5480).
const SPKI: [u8; 26] = *b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// The tokens of one pod: the same one for the same question until it has to be another.
#[derive(Debug, Default)]
pub struct Tokens {
    /// By audience and seconds.
    issued: RefCell<BTreeMap<(String, i64), Token>>,
}

#[derive(Debug)]
struct Token {
    text: String,
    /// Monotonic milliseconds.
    renew: u64,
}

impl Tokens {
    /// The token that a volume asks for. `lib` is where the key is, or will be.
    pub fn find(&self, lib: &Path, pod: &Pod, asked: &ServiceAccountTokenProjection, now: At) -> Result<String> {
        let audience = asked.audience.clone().filter(|audience| !audience.is_empty()).unwrap_or_else(|| ISSUER.into());
        let seconds = asked.expiration_seconds.unwrap_or(3600);
        let mut issued = self.issued.borrow_mut();
        if let Some(known) = issued.get(&(audience.clone(), seconds)) {
            return Ok(known.text.clone());
        }
        let key = Key::of(lib).map_err(|error| error.doing("signing a service account token"))?;
        let jti = identity::random()?;
        let text = key.sign(&claims(pod, &audience, seconds, now.wall / 1000, &jti))?;
        let lifetime = u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
        let renew = now.mono.saturating_add((lifetime / 5 * 4).min(OLDEST_MS));
        issued.insert((audience, seconds), Token { text: text.clone(), renew });
        Ok(text)
    }

    /// When the next one has to be replaced, in monotonic milliseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.issued.borrow().values().map(|token| token.renew).min()
    }

    /// Forgets those that have to be replaced; whoever asks next gets others. False: none has.
    pub fn expire(&self, now: u64) -> bool {
        self.issued.borrow_mut().extract_if(.., |_, token| token.renew <= now).count() > 0
    }
}

/// `pkg/serviceaccount/claims.go`. Times are in seconds.
fn claims(pod: &Pod, audience: &str, seconds: i64, now: i64, jti: &str) -> Value {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let account = pod_spec(pod).service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
    let node = pod_spec(pod).node_name.as_deref().unwrap_or_default();
    let named = |name: &str, uid: &str| json!({ "name": name, "uid": uid });
    json!({
        "aud": [audience],
        "exp": now.saturating_add(seconds),
        "iat": now,
        "iss": ISSUER,
        "jti": jti,
        "kubernetes.io": {
            "namespace": namespace,
            "node": named(node, &identity::of(&format!("Node/{node}"))),
            "pod": named(pod.metadata.name.as_deref().unwrap_or_default(), pod.metadata.uid.as_deref().unwrap_or_default()),
            "serviceaccount": named(account, &identity::of(&format!("ServiceAccount/{namespace}/{account}"))),
        },
        "nbf": now,
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
    })
}

/// What tokens are signed with.
struct Key {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Key {
    /// The machine's key; the first who needs it makes it.
    fn of(lib: &Path) -> Result<Key> {
        let path = lib.join("service-account.key");
        let random = SystemRandom::new();
        if !path.exists() {
            make_dirs(lib)?;
            let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(|_| Error::said("no randomness for a key"))?;
            file::write_once(&path, made.as_ref(), 0o600)?;
        }
        let bytes = std::fs::read(&path).map_err(|error| Error::io("read", path.display(), &error))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &bytes, &random);
        let wrong = |why| Error::said(format!("{} is no key of P-256 ({why}); remove it, and another one is made", path.display()));
        Ok(Key { pair: pair.map_err(wrong)?, random })
    }

    /// A JSON Web Token in its compact form (RFC 7519, RFC 7518 section 3.4).
    fn sign(&self, claims: &Value) -> Result<String> {
        let public = [&SPKI, self.pair.public_key().as_ref()].concat();
        let header = json!({ "alg": "ES256", "kid": URL_SAFE_NO_PAD.encode(Sha256::digest(public)) });
        let signed = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = self.pair.sign(&self.random, signed.as_bytes()).map_err(|_| Error::said("no randomness for a signature"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    const NOW: At = At { mono: 5_000, wall: 1_700_000_000_500 };

    fn pod() -> Pod {
        let spec = json!({ "containers": [], "serviceAccountName": "robot", "nodeName": "here" });
        serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" }, "spec": spec })).unwrap()
    }

    fn asked(audience: Option<&str>, seconds: i64) -> ServiceAccountTokenProjection {
        ServiceAccountTokenProjection { audience: audience.map(str::to_owned), expiration_seconds: Some(seconds), path: "t".into() }
    }

    #[test]
    fn a_token_says_whose_it_is_and_its_signature_holds() {
        let lib = tempfile::tempdir().unwrap();
        let token = Tokens::default().find(lib.path(), &pod(), &asked(None, 3600), NOW).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let key = Key::of(lib.path()).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.pair.public_key());
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap()).unwrap();
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!([ISSUER])));
        assert_eq!((&claims["iat"], &claims["nbf"], &claims["exp"]), (&json!(1_700_000_000), &json!(1_700_000_000), &json!(1_700_003_600)));
        assert_eq!(claims["sub"], "system:serviceaccount:n:robot");
        let bound = &claims["kubernetes.io"];
        assert_eq!((&bound["pod"], &bound["namespace"]), (&json!({ "name": "p", "uid": "u" }), &json!("n")));
        assert_eq!((&bound["serviceaccount"]["name"], &bound["node"]["name"]), (&json!("robot"), &json!("here")));
        assert_eq!(claims["jti"].as_str().unwrap().len(), 36);
    }

    #[test]
    fn a_token_is_kept_for_four_fifths_of_its_life_and_a_day_at_most() {
        let lib = tempfile::tempdir().unwrap();
        for (seconds, renew) in [(600, 480_000), (3600, 2_880_000), (1 << 32, OLDEST_MS)] {
            let tokens = Tokens::default();
            let find = |now| tokens.find(lib.path(), &pod(), &asked(Some("api"), seconds), now).unwrap();
            let first = find(NOW);
            assert_eq!(tokens.deadline(), Some(NOW.mono + renew));
            assert!(!tokens.expire(NOW.mono + renew - 1));
            assert_eq!(find(NOW), first);
            assert!(tokens.expire(NOW.mono + renew));
            assert_eq!(tokens.deadline(), None);
            assert_ne!(find(NOW), first);
        }
    }

    #[test]
    fn there_is_one_key_for_root_alone_and_a_broken_one_is_named() {
        let lib = tempfile::tempdir().unwrap();
        let public = |key: Key| key.pair.public_key().as_ref().to_vec();
        assert_eq!(public(Key::of(lib.path()).unwrap()), public(Key::of(lib.path()).unwrap()));
        let path = lib.path().join("service-account.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(lib.path()).unwrap().count(), 1);
        std::fs::write(&path, "x").unwrap();
        let error = Key::of(lib.path()).err().unwrap().to_string();
        assert!(error.contains("service-account.key is no key of P-256"), "{error}");
    }
}
