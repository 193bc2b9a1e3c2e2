//! From text to tokens and back, by the merges that the training script learned. The same steps as `pieces` and
//! `encode_piece` in `training/train.py`. Knows nothing of the network.

include!(concat!(env!("OUT_DIR"), "/vocabulary.rs"));

/// A token of the vocabulary.
pub(crate) type Token = u16;

/// Ends a chapter, and stands for whatever came before one.
pub(crate) const END: Token = 0;

/// The tokens of a text.
pub(crate) fn encode(text: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 2);
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, next) = rest.split_at(piece_length(rest));
        tokens.extend(encode_piece(piece));
        rest = next;
    }
    tokens
}

/// The bytes that a token stands for.
pub(crate) fn text_of(token: Token) -> &'static [u8] {
    TEXTS.get(usize::from(token)).copied().unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    /// Any byte of a character beyond ASCII is one.
    Letter,
    Other,
}

fn kind(byte: u8) -> Kind {
    match byte {
        b' ' | b'\n' | b'\t' | b'\r' => Kind::Space,
        _ if byte >= 0x80 || byte.is_ascii_alphabetic() => Kind::Letter,
        _ => Kind::Other,
    }
}

/// A run of letters or of other signs with the one space before it; other white space byte by byte.
fn piece_length(text: &[u8]) -> usize {
    let kind_at = |index: usize| text.get(index).copied().map(kind);
    let has_space = text.first() == Some(&b' ') && !matches!(kind_at(1), None | Some(Kind::Space));
    let start = usize::from(has_space);
    match kind_at(start) {
        Some(Kind::Space) | None => 1,
        run => start + (start..text.len()).take_while(|index| kind_at(*index) == run).count(),
    }
}

fn encode_piece(piece: &[u8]) -> Vec<Token> {
    let mut tokens: Vec<Token> = piece.iter().map(|byte| Token::from(*byte) + 1).collect();
    // The lowest token was learned first, and goes first.
    while let Some((pair, merged)) =
        pairs(&tokens).filter_map(|pair| Some((pair, merge(pair)?))).min_by_key(|found| found.1)
    {
        let mut read = 0;
        let mut written = Vec::with_capacity(tokens.len());
        while let Some(token) = tokens.get(read) {
            let is_pair = *token == pair.0 && tokens.get(read + 1) == Some(&pair.1);
            written.push(if is_pair { merged } else { *token });
            read += if is_pair { 2 } else { 1 };
        }
        tokens = written;
    }
    tokens
}

fn pairs(tokens: &[Token]) -> impl Iterator<Item = (Token, Token)> {
    tokens.windows(2).map(|pair| (pair[0], pair[1]))
}

fn merge(pair: (Token, Token)) -> Option<Token> {
    let index = MERGES.binary_search_by_key(&pair, |(known, _)| *known).ok()?;
    MERGES.get(index).map(|(_, token)| *token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(tokens: &[Token]) -> Vec<u8> {
        tokens.iter().flat_map(|token| text_of(*token)).copied().collect()
    }

    #[test]
    fn pieces_are_words_with_their_space() {
        let mut rest = &b"Oh!  she\n said, 1813 caf\xc3\xa9 "[..];
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, next) = rest.split_at(piece_length(rest));
            pieces.push(String::from_utf8_lossy(piece).into_owned());
            rest = next;
        }
        assert_eq!(pieces, ["Oh", "!", " ", " she", "\n", " said", ",", " 1813", " café", " "]);
    }

    #[test]
    fn every_text_comes_back_and_common_words_are_short() {
        for text in
            ["", " ", "It is a truth universally acknowledged", "Das Haus\r\n\t über 漢字", "\u{0}\u{7f}"]
        {
            assert_eq!(decode(&encode(text.as_bytes())), text.as_bytes(), "{text:?}");
        }
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(decode(&encode(&all)), all);
        assert_eq!(encode(b" the").len(), 1);
    }
}
