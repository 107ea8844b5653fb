//! Which files a path means: a file, a folder, a glob, as users of DuckDB expect.
//!
//! A folder stands for the files below it that end as its format does. In a glob `*` and `?` match
//! within one name, `[a-z]` and `[!a-z]` one letter, `**` any depth, `{a,b}` either. Names that begin
//! with `.` or `_` are only found by naming them. `key=value` folders become columns.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use asof_model::Format;

use crate::{Error, Result};

/// A file found, not yet opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// As shown to people: relative to the project's folder where it lies below it.
    pub shown: String,
    /// `key=value` folders on its way, outermost first; a null partition has no value.
    pub partitions: Vec<(String, Option<String>)>,
}

/// How deep folders are followed.
const DEEPEST: usize = 32;

/// All files of the path, in the order of their paths.
///
/// # Errors
/// [`Error::Invalid`] with code `source_file_missing`, `source_no_files`, `source_url` or
/// `source_partitions`.
pub(crate) fn find(root: &Path, path: &str, format: Format, hive: bool) -> Result<Vec<Found>> {
    let plain = match path.split_once("://") {
        Some(("file", rest)) => rest,
        Some((scheme, _)) => {
            return Err(Error::invalid(
                "source_url",
                format!("path `{path}`: `{scheme}://` cannot be read by this build"),
            )
            .with_hint("copy the files to a folder, or mount it, and name that path"));
        }
        None => path,
    };
    let whole = root.join(plain);
    let mut files = BTreeSet::new();
    if whole.is_file() {
        files.insert(whole);
    } else if whole.is_dir() {
        below(&whole, format, &mut Vec::new(), &mut files)?;
        if files.is_empty() {
            return Err(Error::invalid(
                "source_no_files",
                format!("folder `{path}` holds no file that ends in {}", format.endings().join(" or ")),
            )
            .with_hint("name the files with a glob, or set `format`"));
        }
    } else if plain.contains(['*', '?', '[', '{']) {
        let all = braces(&whole.to_string_lossy()).ok_or_else(|| {
            Error::invalid("source_glob", format!("glob `{path}` stands for more than {MOST_GLOBS} globs"))
                .with_hint("use `*` where it has `{..}`, or give a folder")
        })?;
        for one in all {
            glob(Path::new(&one), format, &mut files)?;
        }
        if files.is_empty() {
            return Err(Error::invalid("source_no_files", format!("glob `{path}` matches no file"))
                .with_hint(format!(
                    "it is looked up from the project's folder; {}",
                    nearest(&whole, plain)
                )));
        }
    } else {
        return Err(Error::invalid("source_file_missing", format!("file `{path}` does not exist"))
            .with_hint(nearest(&whole, plain)));
    }
    let mut found: Vec<Found> = files
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(root).unwrap_or(&path);
            let shown = inside.to_string_lossy().replace('\\', "/");
            let partitions = if hive { partitions(inside) } else { Vec::new() };
            Found { shown, partitions, path }
        })
        .collect();
    agree(&format!("`{path}`"), &mut found)?;
    Ok(found)
}

/// As DuckDB does: partitions only where all files agree. Some files having none at all is chance; files
/// that disagree are a mistake. `path`: how the files were named together.
pub(crate) fn agree(path: &str, found: &mut [Found]) -> Result<()> {
    let keys = |found: &Found| found.partitions.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let first = found.first().map(keys).unwrap_or_default();
    let Some(other) = found.iter().find(|other| keys(other) != first) else { return Ok(()) };
    if first.is_empty() || other.partitions.is_empty() {
        found.iter_mut().for_each(|file| file.partitions.clear());
        return Ok(());
    }
    let message = format!(
        "path {path}: file `{}` lies in partitions ({}), but `{}` in ({})",
        other.shown,
        keys(other).join(", "),
        found.first().map_or("", |file| &file.shown),
        first.join(", "),
    );
    Err(Error::invalid("source_partitions", message)
        .with_hint("give all files the same key=value folders, or set `hive_partitioning: false`"))
}

/// Whether a source's path means this file, or would if the file were there. `file` is canonical, or its
/// folder is.
pub fn means(root: &Path, path: &str, format: Format, file: &Path) -> bool {
    let plain = path.strip_prefix("file://").unwrap_or(path);
    let whole = root.join(plain);
    let same = |other: &Path| {
        let other = std::fs::canonicalize(other);
        other.is_ok_and(|other| other == file)
    };
    if let Ok(folder) = std::fs::canonicalize(&whole)
        && folder.is_dir()
    {
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        // Whatever lies in a table's folder is the table's.
        let ends = format == Format::Delta || format.endings().iter().any(|end| name.ends_with(end));
        return file.starts_with(&folder) && ends;
    }
    if same(&whole) || whole == file {
        return true;
    }
    if !plain.contains(['*', '?', '[', '{']) {
        return false;
    }
    let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let name_of = |path: &Path| -> Vec<String> {
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let file_parts = name_of(file);
    let globs = braces(&root.join(plain).to_string_lossy()).unwrap_or_default();
    globs.iter().any(|glob| parts_match(&name_of(Path::new(glob)), &file_parts))
        || find(&root, path, format, false).is_ok_and(|found| found.iter().any(|found| same(&found.path)))
}

/// Whether the parts of a path match those of a glob.
fn parts_match(glob: &[String], parts: &[String]) -> bool {
    let Some((first, after)) = glob.split_first() else { return parts.is_empty() };
    if first == "**" {
        // A path has few parts, and few globs have more than one `**`.
        return (0..=parts.len()).any(|from| parts_match(after, &parts[from..]))
            || (after.is_empty() && !parts.is_empty());
    }
    match parts.split_first() {
        Some((part, rest)) => {
            (matches(first.as_bytes(), part.as_bytes()) || first == part) && parts_match(after, rest)
        }
        None => false,
    }
}

fn hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let read = std::fs::read_dir(folder).map_err(|e| Error::io("list the folder", folder, &e))?;
    let mut all = Vec::new();
    for entry in read {
        let entry = entry.map_err(|e| Error::io("list the folder", folder, &e))?;
        all.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    all.sort();
    Ok(all)
}

/// The folders on the way down, by device and number: one that leads back into itself is not entered again.
type Way = Vec<(u64, u64)>;

/// Goes on below a folder, unless the way leads through it already or is too long.
fn within(folder: &Path, way: &mut Way, then: impl FnOnce(&mut Way) -> Result<()>) -> Result<()> {
    let found = std::fs::metadata(folder).map_err(|e| Error::io("list the folder", folder, &e))?;
    let number = (found.dev(), found.ino());
    if way.len() > DEEPEST || way.contains(&number) {
        return Ok(());
    }
    way.push(number);
    let done = then(way);
    way.pop();
    done
}

fn below(folder: &Path, format: Format, way: &mut Way, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    within(folder, way, |way| {
        for (name, path) in entries(folder)? {
            if hidden(&name) {
                continue;
            }
            if path.is_dir() {
                below(&path, format, way, files)?;
            } else if format.endings().iter().any(|end| name.to_ascii_lowercase().ends_with(end)) {
                files.insert(path);
            }
        }
        Ok(())
    })
}

/// Into how many patterns braces are written out at most.
const MOST_GLOBS: usize = 10_000;

/// `a{b,c}d` as `abd` and `acd`; none where there would be too many.
fn braces(pattern: &str) -> Option<Vec<String>> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        let group = pattern.find('{').and_then(|from| Some((from, pattern[from..].find('}')? + from)));
        let Some((from, to)) = group else {
            done.push(pattern);
            continue;
        };
        let (before, after) = (&pattern[..from], &pattern[to + 1..]);
        let middles: Vec<&str> = pattern[from + 1..to].split(',').collect();
        if done.len() + open.len() + middles.len() > MOST_GLOBS {
            return None;
        }
        // Taken from the end: the first middle comes first.
        open.extend(middles.into_iter().rev().map(|middle| format!("{before}{middle}{after}")));
    }
    Some(done)
}

fn glob(pattern: &Path, format: Format, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let mut start = PathBuf::new();
    let mut rest: Vec<String> = Vec::new();
    for part in pattern.components() {
        let text = part.as_os_str().to_string_lossy();
        if rest.is_empty() && !text.contains(['*', '?', '[']) {
            start.push(part);
        } else {
            rest.push(text.into_owned());
        }
    }
    walk(&start, &rest, format, &mut Vec::new(), files)
}

fn walk(
    at: &Path,
    rest: &[String],
    format: Format,
    way: &mut Way,
    files: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    let Some((first, after)) = rest.split_first() else {
        if at.is_file() {
            files.insert(at.to_owned());
        } else if at.is_dir() {
            below(at, format, way, files)?;
        }
        return Ok(());
    };
    if !at.is_dir() {
        return Ok(());
    }
    if first == "**" {
        if after.is_empty() {
            return below(at, format, way, files);
        }
        walk(at, after, format, way, files)?;
        return within(at, way, |way| {
            for (name, path) in entries(at)? {
                if !hidden(&name) && path.is_dir() {
                    walk(&path, rest, format, way, files)?;
                }
            }
            Ok(())
        });
    }
    for (name, path) in entries(at)? {
        if hidden(&name) && !first.starts_with(['.', '_']) {
            continue;
        }
        if matches(first.as_bytes(), name.as_bytes()) {
            walk(&path, after, format, way, files)?;
        }
    }
    Ok(())
}

/// Whether a name matches a pattern of `*`, `?` and `[..]`. Of several stars only the last is ever tried
/// again, so the time is the product of both lengths at most.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, name);
    // What follows the last star, and what of the name that was tried with.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match rest.split_first() {
            Some((b'*', after)) => {
                again = Some((after, left));
                rest = after;
                continue;
            }
            None if left.is_empty() => return true,
            Some(_) => {
                if let Some((after, beyond)) = one(rest, left) {
                    (rest, left) = (after, beyond);
                    continue;
                }
            }
            None => {}
        }
        let Some((after, tried)) = again else { return false };
        let Some((_, shorter)) = tried.split_first() else { return false };
        again = Some((after, shorter));
        (rest, left) = (after, shorter);
    }
}

/// Takes one sign off a pattern, which is no star, and what it matches off a name.
fn one<'a>(pattern: &'a [u8], name: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (sign, rest) = pattern.split_first()?;
    let (letter, beyond) = name.split_first()?;
    match sign {
        b'?' => {
            // A letter of several bytes is one letter.
            let more = beyond.iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
            Some((rest, &beyond[more..]))
        }
        b'[' => {
            let Some(end) = rest.iter().skip(1).position(|b| *b == b']').map(|at| at + 1) else {
                return (*letter == b'[').then_some((rest, beyond));
            };
            let (not, set) = match rest[..end].split_first() {
                Some((b'!' | b'^', set)) => (true, set),
                _ => (false, &rest[..end]),
            };
            let mut within = false;
            let mut at = 0;
            while at < set.len() {
                if at + 2 < set.len() && set[at + 1] == b'-' {
                    within |= (set[at]..=set[at + 2]).contains(letter);
                    at += 3;
                } else {
                    within |= set[at] == *letter;
                    at += 1;
                }
            }
            (within != not).then_some((&rest[end + 1..], beyond))
        }
        byte => (byte == letter).then_some((rest, beyond)),
    }
}

/// `key=value` folders of a path; the null partition as Hive writes it.
pub(crate) fn partitions(path: &Path) -> Vec<(String, Option<String>)> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for part in path.parent().into_iter().flat_map(Path::components) {
        let text = part.as_os_str().to_string_lossy();
        if let Some((key, value)) = text.split_once('=')
            && !key.is_empty()
        {
            let value = (value != "__HIVE_DEFAULT_PARTITION__").then(|| decoded(value));
            found.retain(|(other, _)| *other != decoded(key));
            found.push((decoded(key), value));
        }
    }
    found
}

/// Percent-decoding, as writers of partitions encode `/`, `:` and blanks.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// What to say about a path that is not there: the nearest name beside it, or the missing folder.
fn nearest(whole: &Path, written: &str) -> String {
    let folder = whole
        .ancestors()
        .skip(1)
        .find(|up| up.is_dir() || !up.to_string_lossy().contains(['*', '?', '[', '{']));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        let missing = whole.parent().map(|up| up.to_string_lossy().into_owned()).unwrap_or_default();
        let shown = Path::new(written).parent().map(|up| up.to_string_lossy().into_owned());
        return format!(
            "folder `{}` does not exist",
            shown.filter(|text| !text.is_empty()).unwrap_or(missing)
        );
    };
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let best = entries(folder)
        .unwrap_or_default()
        .into_iter()
        .map(|(other, _)| other)
        .filter(|o| !hidden(o))
        .max_by(|a, b| strsim::jaro_winkler(a, &name).total_cmp(&strsim::jaro_winkler(b, &name)));
    match best {
        Some(best) if strsim::jaro_winkler(&best, &name) > 0.7 => format!("did you mean `{best}`?"),
        Some(best) => format!("its folder holds `{best}`, among others"),
        None => "its folder is empty".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_shells_do() {
        for (pattern, name, is) in [
            ("*.parquet", "a.parquet", true),
            ("*.parquet", ".parquet", true),
            ("a?c", "abc", true),
            ("a?c", "a\u{e9}c", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c", false),
            ("a*", "a", true),
            ("*", "", true),
            ("", "a", false),
            ("*a?", "xaab", true),
            ("a[b", "a[b", true),
            // Exponential in the stars where each is tried anew.
            ("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", "a".repeat(200).as_str(), false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), is, "{pattern} {name}");
        }
        assert_eq!(braces("a{b,c}{d,e}").unwrap(), ["abd", "abe", "acd", "ace"]);
        assert_eq!(braces("a{b,{c}").unwrap(), ["ab", "a{c"]);
        assert_eq!(braces(&"{0,1,2,3,4,5,6,7,8,9}".repeat(60)), None);
    }

    #[test]
    fn partitions_are_read_from_folders() {
        let found =
            partitions(Path::new("data/year=2013/city=New%20York/k=__HIVE_DEFAULT_PARTITION__/a=b.parquet"));
        let want = [("year", Some("2013")), ("city", Some("New York")), ("k", None)];
        let want: Vec<_> = want.map(|(k, v)| (k.to_owned(), v.map(str::to_owned))).into();
        assert_eq!(found, want);
    }
}
