//! `asof.yaml`.

use super::fields::{Fields, Reader, is_plain};
use super::{CONFIG_FILE, config_error, top_of};
use crate::keys;
use crate::yaml;
use crate::{Config, Diagnostics, Double, ProjectFile};

pub(super) fn read(files: &[ProjectFile], out: &mut Diagnostics) -> Option<Config> {
    let Some(file) = files.iter().find(|file| file.path == CONFIG_FILE) else {
        out.push(config_error(
            "no_project",
            "there is no asof.yaml at the top of the project's folder",
            "write one with the line `project: NAME`",
        ));
        return None;
    };
    let (documents, broken) = yaml::read(&file.path, &file.text, out);
    let Some(document) = documents.first() else {
        if broken.is_empty() {
            out.push(
                config_error("no_project", "asof.yaml is empty", "write the line `project: NAME`")
                    .at(top_of(&file.path, &file.text)),
            );
        }
        return None;
    };
    let mut reader = Reader::new(document, out);
    for more in &documents[1..] {
        let mut reader = Reader::new(more, reader.out);
        reader.wrong(
            &more.root,
            "config_documents",
            "asof.yaml is one document".to_owned(),
            Some("definitions stand in files below `features/`".to_owned()),
        );
    }
    let fields = reader.fields(&document.root, &keys::CONFIG, CONFIG_FILE)?;
    let (tls_certificate, tls_key) = reader.tls(&fields);
    let config = Config {
        server: reader.url(&fields, "server"),
        listen: reader.listen(&fields),
        data_dir: reader.text(&fields, "data_dir"),
        memory: reader.size(&fields, "memory"),
        threads: reader.count(&fields, "threads"),
        operations: reader.count(&fields, "operations"),
        serving_log_sample: reader.share(&fields, "serving_log_sample"),
        serving_log_keep: reader.length(&fields, "serving_log_keep"),
        flush_interval: reader.length(&fields, "flush_interval"),
        tls_certificate,
        tls_key,
        tls_authorities: reader.text(&fields, "tls_authorities"),
        project: reader.name(&fields, "project")?,
    };
    Some(config)
}

impl<'a> Reader<'a> {
    /// A URL that holds no password.
    fn url(&mut self, fields: &Fields<'a>, key: &str) -> Option<String> {
        let text = self.text(fields, key)?;
        let authority =
            text.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
        let node = fields.get(key)?;
        if let Some((user, _)) = authority.and_then(|authority| authority.rsplit_once('@'))
            && user.contains(':')
        {
            // The value is a secret: it is not repeated.
            self.wrong(
                node,
                "config_secret",
                format!("`{key}` in {CONFIG_FILE} holds a password"),
                Some("leave it out; commands send the token of the variable ASOF_TOKEN".to_owned()),
            );
            return None;
        }
        if key == "server" && !text.starts_with("http://") && !text.starts_with("https://") {
            let hint = format!("e.g. `https://{}`", text.trim_start_matches('/'));
            let message = format!("`{key}` in {CONFIG_FILE} takes an http or https URL, not `{text}`");
            self.wrong(node, "wrong_value", message, Some(hint));
            return None;
        }
        Some(text)
    }

    /// The server's certificate and key: both or neither.
    fn tls(&mut self, fields: &Fields<'a>) -> (Option<String>, Option<String>) {
        let both = (self.text(fields, "tls_certificate"), self.text(fields, "tls_key"));
        let (given, missing) = match (fields.get("tls_certificate"), fields.get("tls_key")) {
            (Some(node), None) => (node, ("tls_certificate", "tls_key")),
            (None, Some(node)) => (node, ("tls_key", "tls_certificate")),
            _ => return both,
        };
        self.wrong(
            given,
            "missing_key",
            format!("`{}` in {CONFIG_FILE} stands without `{}`", missing.0, missing.1),
            Some("name both files, the certificate chain and its private key".to_owned()),
        );
        both
    }

    fn listen(&mut self, fields: &Fields<'a>) -> Option<String> {
        let text = self.text(fields, "listen")?;
        let port = text
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            let node = fields.get("listen")?;
            let message = format!("`listen` in {CONFIG_FILE} takes an address and a port, not `{text}`");
            let hint = match text.parse::<u16>() {
                Ok(port) => format!("e.g. `127.0.0.1:{port}`"),
                Err(_) => "e.g. `127.0.0.1:2763`".to_owned(),
            };
            self.wrong(node, "wrong_value", message, Some(hint));
            return None;
        }
        Some(text)
    }

    fn count(&mut self, fields: &Fields<'a>, key: &str) -> Option<usize> {
        let node = fields.get(key)?;
        match node.scalar().filter(|_| is_plain(node)).and_then(|text| text.parse::<usize>().ok()) {
            Some(number @ 1..=4096) => Some(number),
            _ => {
                let found = node.scalar().unwrap_or(node.shape());
                let message =
                    format!("`{key}` in {CONFIG_FILE} takes a whole number from 1 to 4096, not `{found}`");
                self.wrong(node, "wrong_value", message, Some("e.g. `threads: 4`".to_owned()));
                None
            }
        }
    }

    fn share(&mut self, fields: &Fields<'a>, key: &str) -> Option<Double> {
        let node = fields.get(key)?;
        let found = node.scalar().filter(|_| is_plain(node)).and_then(Config::parse_share);
        if found.is_none() {
            let text = node.scalar().unwrap_or(node.shape());
            let message = format!("`{key}` in {CONFIG_FILE} takes a number from 0 to 1, not `{text}`");
            self.wrong(
                node,
                "wrong_value",
                message,
                Some(format!("e.g. `{key}: 0.01`, one key in a hundred")),
            );
        }
        found
    }

    fn size(&mut self, fields: &Fields<'a>, key: &str) -> Option<u64> {
        let node = fields.get(key)?;
        let found = node.scalar().and_then(parse_size);
        if found.is_none() {
            let text = node.scalar().unwrap_or(node.shape());
            let message = format!("`{key}` in {CONFIG_FILE} takes a number of bytes, not `{text}`");
            self.wrong(node, "wrong_value", message, Some("e.g. `512MB`, `8GB`, `24GiB`".to_owned()));
        }
        found
    }
}

/// Bytes of `512MB`, `8 GB`, `24GiB`, `1000000`; at least one.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit).filter(|bytes| *bytes > 0)
}
