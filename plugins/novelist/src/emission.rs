//! What of a growing text may be shown: whole characters, and nothing that may yet turn out to be where it stops.

/// A text that grows.
pub(crate) struct Emission {
    held: Vec<u8>,
    stops: Vec<Vec<u8>>,
}

impl Emission {
    /// A text that ends before the first of these.
    pub(crate) fn new(stops: Vec<Vec<u8>>) -> Emission {
        Emission { held: Vec::new(), stops }
    }

    /// Adds to the text. Answers what may be shown of it by now, and whether it has come to a stop.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> (String, bool) {
        self.held.extend_from_slice(bytes);
        let stop = self.stops.iter().filter_map(|stop| find(&self.held, stop)).min();
        if let Some(stop) = stop {
            self.held.truncate(stop);
            return (self.finish(), true);
        }
        let safe = whole_characters(&self.held).min(self.held.len() - self.begun());
        let shown = self.held.drain(..safe).collect::<Vec<u8>>();
        (String::from_utf8_lossy(&shown).into_owned(), false)
    }

    /// What was held back, when nothing more comes.
    pub(crate) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }

    /// How many bytes at the end may be the beginning of a stop.
    fn begun(&self) -> usize {
        let begun = |stop: &Vec<u8>| {
            let longest = stop.len().saturating_sub(1).min(self.held.len());
            (1..=longest).rev().find(|length| self.held.ends_with(&stop[..*length])).unwrap_or(0)
        };
        self.stops.iter().map(begun).max().unwrap_or(0)
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len().max(1)).position(|window| window == part)
}

/// Bytes up to the end of the last whole character. What is no character at all is shown as such.
fn whole_characters(text: &[u8]) -> usize {
    let start = text.len().saturating_sub(3);
    let tail = text.get(start..).unwrap_or_default();
    // A character that has begun has its first byte among the last three.
    let first = tail.iter().rposition(|byte| *byte >= 0xc0);
    let is_begun = |first: &usize| {
        let begun = tail.get(*first..).unwrap_or_default();
        std::str::from_utf8(begun).is_err_and(|error| error.error_len().is_none())
    };
    first.filter(is_begun).map_or(text.len(), |first| start + first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut emission = Emission::new(stops.iter().map(|stop| stop.as_bytes().to_vec()).collect());
        let mut shown = Vec::new();
        for piece in pieces {
            let (text, has_stopped) = emission.push(piece);
            shown.push(text);
            if has_stopped {
                return (shown, true);
            }
        }
        shown.push(emission.finish());
        (shown, false)
    }

    #[test]
    fn what_may_become_a_stop_is_held_back() {
        let (pieces, has_stopped) = shown(&["END", "\n\n"], &[b"a E", b"N", b"d \n", b"b E", b"NDless"]);
        assert_eq!((pieces.join("|").as_str(), has_stopped), ("a ||ENd |\nb |", true));
        let (pieces, has_stopped) = shown(&["END"], &[b"an E"]);
        assert_eq!((pieces.join("|").as_str(), has_stopped), ("an |E", false));
    }

    #[test]
    fn the_first_stop_counts() {
        assert_eq!(shown(&["c", "b"], &[b"abc"]), (vec!["a".to_owned()], true));
    }

    #[test]
    fn characters_come_whole() {
        let (pieces, _) = shown(&[], &[b"\xf0", b"\x9f\x98", b"\x80!", b"\xff", b"\xc3"]);
        assert_eq!(pieces, ["", "", "😀!", "\u{fffd}", "", "\u{fffd}"]);
    }
}
