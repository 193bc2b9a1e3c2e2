//! Compressed bodies: what a request says of its own, and what a client takes in a response. It knows the codings and
//! their limits, not what is inside.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::Either;
use modelhost_core::ErrorCode;

use crate::body::{BodyBudget, Reservation, WholeBody, too_large};
use crate::error::{ApiError, shortened};
use crate::handlers::{MAX_INLINE_BYTES, on_another_thread};
use crate::reply::{Reply, Whole};

/// Less is not worth a header.
const SMALLEST: usize = 1 << 10;
/// How much more of the budget is taken at once for what comes out.
const STEP: usize = 1 << 20;
/// Of `zstd` and `flate2`: the fastest. A response is compressed while its client waits.
const LEVEL: u32 = 1;

/// A coding of HTTP that is understood here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Zstd,
    Gzip,
    /// As in HTTP: the zlib format.
    Deflate,
}

impl Coding {
    /// The best first.
    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Gzip, Coding::Deflate];

    const fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    /// The one of a request's body.
    ///
    /// # Errors
    /// One that is not understood, or several.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
        let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(None) };
        let name = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "identity" | "" => Ok(None),
            // What HTTP once called it.
            "x-gzip" => Ok(Some(Coding::Gzip)),
            name => Coding::ALL.into_iter().find(|coding| coding.name() == name).map(Some).ok_or_else(|| {
                let shown = shortened(name);
                ApiError::new(
                    ErrorCode::UnsupportedMediaType,
                    format!(
                        "the header Content-Encoding is {shown:?}: expected zstd, gzip, deflate or identity"
                    ),
                )
            }),
        }
    }

    /// The one that a client wants most of those that it takes.
    fn of_response(headers: &HeaderMap) -> Option<Coding> {
        let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let accepted: Vec<(&str, f32)> =
            values.flat_map(|value| value.split(',')).filter_map(accepted).collect();
        let quality = |coding: Coding| {
            let named = accepted.iter().find(|(name, _)| name.eq_ignore_ascii_case(coding.name()));
            named
                .or_else(|| accepted.iter().find(|(name, _)| *name == "*"))
                .map_or(0.0, |(_, quality)| *quality)
        };
        // The first of those that are wanted equally much.
        let best = |best: Option<Coding>, coding| match best {
            Some(best) if quality(best) >= quality(coding) => Some(best),
            _ => Some(coding),
        };
        Coding::ALL.into_iter().fold(None, best).filter(|coding| quality(*coding) > 0.0)
    }

    fn compress(self, pieces: impl Iterator<Item = Bytes>) -> std::io::Result<Vec<u8>> {
        let level = Compression::new(LEVEL);
        match self {
            Coding::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL.cast_signed())?;
                write_all(&mut encoder, pieces)?;
                encoder.finish()
            }
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                write_all(&mut encoder, pieces)?;
                encoder.finish()
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                write_all(&mut encoder, pieces)?;
                encoder.finish()
            }
        }
    }

    fn decoder<'a>(self, compressed: &'a [u8]) -> std::io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Coding::Zstd => Box::new(zstd::Decoder::with_buffer(compressed)?),
            Coding::Gzip => Box::new(MultiGzDecoder::new(compressed)),
            Coding::Deflate => Box::new(ZlibDecoder::new(compressed)),
        })
    }
}

/// One entry of `Accept-Encoding` with its weight; none where it makes no sense.
fn accepted(entry: &str) -> Option<(&str, f32)> {
    let mut parts = entry.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    match parts.next() {
        None => Some((name, 1.0)),
        Some(weight) => Some((name, weight.strip_prefix("q=")?.parse().ok()?)),
    }
}

fn write_all(encoder: &mut impl Write, pieces: impl Iterator<Item = Bytes>) -> std::io::Result<()> {
    for piece in pieces {
        encoder.write_all(&piece)?;
    }
    Ok(())
}

/// A body as it was before its client compressed it, if it did. However little of it was sent, what comes out keeps to
/// the limit, and is counted against the budget as it comes.
///
/// # Errors
/// What is not in that coding, or larger than allowed.
pub(crate) async fn decompress(
    coding: Option<Coding>,
    body: WholeBody,
    limit: u64,
    budget: &BodyBudget,
) -> Result<WholeBody, ApiError> {
    let Some(coding) = coding else { return Ok(body) };
    let WholeBody { bytes, mut reservation } = body;
    let budget = budget.clone();
    on_another_thread(move || {
        let bytes = expand(coding, &bytes, limit, &mut reservation, &budget)?;
        Ok(WholeBody { bytes, reservation })
    })
    .await
}

fn expand(
    coding: Coding,
    compressed: &Bytes,
    limit: u64,
    reservation: &mut Reservation,
    budget: &BodyBudget,
) -> Result<Bytes, ApiError> {
    let broken = |error: std::io::Error| {
        ApiError::invalid(format!(
            "the body is not what its Content-Encoding, {}, says: {error}",
            coding.name()
        ))
    };
    let mut decoder = coding.decoder(compressed).map_err(broken)?;
    let mut expanded = Vec::new();
    loop {
        let read = decoder.by_ref().take(STEP as u64).read_to_end(&mut expanded).map_err(broken)?;
        if expanded.len() as u64 > limit {
            return Err(too_large(limit));
        }
        if read == 0 {
            return Ok(expanded.into());
        }
        reservation.extend_to(compressed.len() + expanded.len(), budget)?;
    }
}

/// Compresses a response where its client takes that and it is worth it. What is sent as it comes stays as it is.
pub(crate) async fn compress(request: &HeaderMap, reply: &mut Reply) {
    let Either::Left(whole) = reply.body_mut() else { return };
    if whole.len() < SMALLEST || reply.status() == StatusCode::NO_CONTENT {
        return;
    }
    reply.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = Coding::of_response(request) else { return };
    let Either::Left(whole) = reply.body_mut() else { return };
    let length = whole.len();
    let pieces: Vec<Bytes> = std::mem::take(whole).into_pieces().collect();
    // Sharing them costs nothing, and they are what is sent where this fails.
    let shared = pieces.clone();
    let work =
        move || coding.compress(shared.into_iter()).map_err(|error| ApiError::internal(error.to_string()));
    let compressed = if length <= MAX_INLINE_BYTES / 8 { work() } else { on_another_thread(work).await };
    match compressed {
        Ok(compressed) => {
            reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            *reply.body_mut() = Either::Left(Whole::new([compressed.into()]));
        }
        Err(error) => {
            tracing::error!(%error, coding = coding.name(), "a response could not be compressed");
            *reply.body_mut() = Either::Left(Whole::new(pieces));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(coding: Coding, bytes: Vec<u8>, limit: u64) -> Result<Bytes, ApiError> {
        expand(coding, &bytes.into(), limit, &mut Reservation::default(), &BodyBudget::new(1 << 30))
    }

    fn wanted(accept: &'static str) -> Option<&'static str> {
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accept))]);
        Coding::of_response(&headers).map(Coding::name)
    }

    #[test]
    fn the_client_says_what_it_takes() {
        assert_eq!(Coding::of_response(&HeaderMap::new()), None);
        for (accept, expected) in [
            ("gzip, deflate", Some("gzip")),
            ("deflate", Some("deflate")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("zstd;q=0.5, gzip;q=0.8", Some("gzip")),
            ("GZIP", Some("gzip")),
            ("*", Some("zstd")),
            ("zstd;q=0, *;q=0.1", Some("gzip")),
            ("br", None),
            ("gzip;q=0", None),
            ("identity", None),
            ("gzip;q=x, ;;", None),
            ("", None),
        ] {
            assert_eq!(wanted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let coding = |value| Coding::of_request(&HeaderMap::from_iter([(CONTENT_ENCODING, value)]));
        assert_eq!(coding(HeaderValue::from_static("GZip")).unwrap(), Some(Coding::Gzip));
        assert_eq!(coding(HeaderValue::from_static("identity")).unwrap(), None);
        for unknown in ["br", "gzip, gzip", "gzip;q=1"] {
            let message = coding(HeaderValue::from_static(unknown)).unwrap_err().message;
            assert!(message.contains(unknown) && message.contains("expected zstd"), "{message}");
        }
    }

    #[test]
    fn a_small_body_cannot_become_a_large_one() {
        for coding in Coding::ALL {
            let zeros = Bytes::from(vec![0; 64 << 20]);
            let bomb = coding.compress(std::iter::once(zeros)).unwrap();
            assert!(bomb.len() < 1 << 20);
            let refused = expanded(coding, bomb.clone(), 1 << 20).unwrap_err();
            assert_eq!(refused.code, ErrorCode::TooLarge, "{coding:?}");
            let mut reservation = Reservation::default();
            let budget = BodyBudget::new(8 << 20);
            let refused = expand(coding, &bomb.into(), 1 << 30, &mut reservation, &budget).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Overloaded, "{coding:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(
            pieces in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..3_000), 0..4),
            cut in 1_usize..30,
        ) {
            let whole = pieces.concat();
            for coding in Coding::ALL {
                let compressed = coding.compress(pieces.iter().map(|piece| piece.clone().into())).unwrap();
                prop_assert_eq!(&expanded(coding, compressed.clone(), 1 << 20).unwrap(), &whole);
                let kept = compressed.len().saturating_sub(cut);
                if kept > 0 {
                    prop_assert!(expanded(coding, compressed[..kept].to_vec(), 1 << 20).is_err());
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for coding in Coding::ALL {
                let _ = expanded(coding, bytes.clone(), 1 << 20);
            }
        }
    }
}
