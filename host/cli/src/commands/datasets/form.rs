//! The body of an upload of several files: `multipart/form-data`, read from the disk as it is sent.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Parts of a form, and how long it is.
pub struct Form {
    boundary: String,
    pieces: VecDeque<Piece>,
    length: u64,
}

enum Piece {
    Text(Cursor<Vec<u8>>),
    /// Not opened before its turn: there may be more files than a process may open.
    Closed(PathBuf, u64),
    Open(io::Take<File>),
}

impl Form {
    /// A form without parts. `boundary` must not occur in any of them.
    pub fn new(boundary: String) -> Form {
        Form { boundary, pieces: VecDeque::new(), length: 0 }
    }

    /// The header that goes with it.
    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// Adds a part that is text.
    pub fn text(&mut self, name: &str, text: &str) {
        let head = format!(
            "--{}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n",
            self.boundary
        );
        self.push(head);
    }

    /// Adds a part that is a file.
    ///
    /// # Errors
    /// A file that is none, or cannot be read.
    pub fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let describe = || format!("cannot read {}", path.display());
        let metadata = File::open(path).and_then(|file| file.metadata()).with_context(describe)?;
        anyhow::ensure!(metadata.is_file(), "{} is no file", path.display());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // As browsers write it.
        let name = name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
        self.push(format!(
            "--{}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n",
            self.boundary
        ));
        self.length += metadata.len();
        self.pieces.push_back(Piece::Closed(path.to_owned(), metadata.len()));
        self.push("\r\n".to_owned());
        Ok(())
    }

    /// The whole, and its length.
    pub fn finish(mut self) -> (u64, impl Read) {
        self.push(format!("--{}--\r\n", self.boundary));
        (self.length, Body(self.pieces))
    }

    fn push(&mut self, text: String) {
        self.length += text.len() as u64;
        self.pieces.push_back(Piece::Text(Cursor::new(text.into_bytes())));
    }
}

struct Body(VecDeque<Piece>);

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.0.front_mut() {
            let length = match piece {
                Piece::Text(text) => text.read(buffer)?,
                Piece::Closed(path, length) => {
                    let file = File::open(&*path)?.take(*length);
                    *piece = Piece::Open(file);
                    continue;
                }
                Piece::Open(file) => match file.read(buffer)? {
                    0 if file.limit() > 0 && !buffer.is_empty() => {
                        return Err(io::Error::other("a file became shorter while it was sent"));
                    }
                    length => length,
                },
            };
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            self.0.pop_front();
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_as_long_as_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a \"b\".csv");
        std::fs::write(&path, "a\n1\n").unwrap();
        let mut form = Form::new("xyz".to_owned());
        form.text("card", "{}");
        form.file(&path).unwrap();
        assert!(form.file(folder.path()).is_err());
        let (length, mut body) = form.finish();
        let mut text = String::new();
        body.read_to_string(&mut text).unwrap();
        assert_eq!(
            text,
            "--xyz\r\nContent-Disposition: form-data; name=\"card\"\r\n\r\n{}\r\n\
             --xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a %22b%22.csv\"\r\n\r\na\n1\n\r\n\
             --xyz--\r\n"
        );
        assert_eq!(length, text.len() as u64);
    }
}
