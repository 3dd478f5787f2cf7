//! Listings of a bucket, asked for without the client that is tested.

use super::{Kind, Server, request, sign};

/// Objects of a page of a listing.
const PAGE_OBJECTS: usize = 1000;
/// Bytes of a page, more than any has.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Name of the object.
    pub key: String,
    /// Size of the object, bytes.
    pub bytes: u64,
}

impl Server {
    /// The objects of a bucket whose names begin with `prefix` and sort after `after`, ascending.
    /// The names have no characters that XML escapes.
    ///
    /// # Errors
    /// The server speaks no S3, refuses, or does not answer in time.
    pub fn list(&self, bucket: &str, prefix: &str, after: &str) -> Result<Vec<Stored>, String> {
        if self.kind() == Kind::Azurite {
            return Err(format!("{} speaks no S3", self.version()));
        }
        let (mut stored, mut after) = (Vec::<Stored>::new(), after.to_owned());
        loop {
            let page = self.page(bucket, prefix, &after)?;
            let Some(last) = page.last() else { return Ok(stored) };
            after.clone_from(&last.key);
            let is_last = page.len() < PAGE_OBJECTS;
            stored.extend(page);
            if is_last {
                return Ok(stored);
            }
        }
    }

    fn page(&self, bucket: &str, prefix: &str, after: &str) -> Result<Vec<Stored>, String> {
        let (prefix, after) = (sign::encoded(prefix), sign::encoded(after));
        let path =
            format!("/{bucket}?list-type=2&max-keys={PAGE_OBJECTS}&prefix={prefix}&start-after={after}");
        let fields = sign::s3("GET", &path, &self.address().to_string());
        match request(self.address(), "GET", &path, &fields, PAGE_BYTES_MAX) {
            Ok((200, text)) => objects(&text),
            Ok((status, text)) => {
                Err(format!("{}: bucket {bucket} can't be listed: status {status}: {text}", self.version()))
            }
            Err(error) => Err(format!("{}: bucket {bucket} can't be listed: {error}", self.version())),
        }
    }
}

/// The objects of a page.
fn objects(page: &str) -> Result<Vec<Stored>, String> {
    if !page.contains("</ListBucketResult>") {
        return Err("a listing is cut short".to_owned());
    }
    let entries = page.split("<Contents>").skip(1);
    let object = |entry: &str| {
        let (key, bytes) = (element(entry, "Key")?, element(entry, "Size")?);
        Some(Stored { key: key.to_owned(), bytes: bytes.parse().ok()? })
    };
    entries.map(|entry| object(entry).ok_or_else(|| format!("not an object of a listing: {entry}"))).collect()
}

/// The text of the first element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_of_a_page_are_read_and_a_cut_page_is_refused() {
        let page = "<ListBucketResult><Name>b</Name><Contents><Key>a/1</Key><Size>7</Size></Contents>\
                    <Contents><ETag>x</ETag><Size>0</Size><Key>a/2</Key></Contents></ListBucketResult>";
        let stored = |key: &str, bytes| Stored { key: key.to_owned(), bytes };
        assert_eq!(objects(page), Ok(vec![stored("a/1", 7), stored("a/2", 0)]));
        assert_eq!(objects("<ListBucketResult></ListBucketResult>"), Ok(vec![]));
        assert!(objects(&page[..page.len() - 5]).is_err());
        assert!(objects(&page.replace("<Size>7</Size>", "")).is_err());
    }
}
