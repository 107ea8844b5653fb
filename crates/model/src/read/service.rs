//! Services and what they pick.

use std::collections::BTreeMap;

use super::fields::{Fields, Reader};
use crate::keys;
use crate::select::parse_pick;
use crate::yaml::{Data, Node};
use crate::{Label, Name, Pick, Service};

impl<'a> Reader<'a> {
    pub(super) fn service(&mut self, node: &'a Node, what: &str) -> Option<Service> {
        let fields = self.fields(node, &keys::SERVICE, what)?;
        let name = self.name(&fields, "service");
        let full_names = self.boolean(&fields, "full_names").unwrap_or_default();
        let about = self.about(&fields);
        let labels = self.labels(&fields);
        let node = fields.get("features")?;
        let mut features = Vec::new();
        match &node.data {
            Data::List(items) if !items.is_empty() => {
                for item in items {
                    features.extend(self.pick(item, what));
                }
            }
            _ => {
                let message = format!(
                    "`features` in {what} takes a list of features, not {}",
                    match &node.data {
                        Data::List(_) => "an empty one",
                        _ => node.shape(),
                    }
                );
                let hint = match node.scalar() {
                    Some(one) => format!("write `features: [{one}]`"),
                    None => "e.g. `- seller_profile.tier`".to_owned(),
                };
                self.wrong(node, "wrong_value", message, Some(hint));
            }
        }
        Some(Service { name: name?, features, labels, full_names, about })
    }

    fn labels(&mut self, fields: &Fields<'a>) -> Vec<Label> {
        let Some(node) = fields.get("labels") else { return Vec::new() };
        let Data::List(items) = &node.data else {
            let message = format!("`labels` in {} takes a list of labels, not {}", fields.what, node.shape());
            let hint = "e.g. `- {from: seller_activity.listings_7d, after: 7d}`";
            self.wrong(node, "wrong_value", message, Some(hint.to_owned()));
            return Vec::new();
        };
        items.iter().filter_map(|item| self.label(item, &fields.what)).collect()
    }

    fn label(&mut self, item: &'a Node, what: &str) -> Option<Label> {
        let part = format!("a label of {what}");
        if let Some(text) = item.scalar() {
            let message = format!("{part} says when it is read, and `{text}` does not");
            self.wrong(item, "wrong_value", message, Some(format!("write `{{from: {text}, after: 7d}}`")));
            return None;
        }
        let fields = self.fields(item, &keys::LABEL, &part)?;
        let after = self.length(&fields, "after");
        let alias = self.name(&fields, "as");
        let keys = self.roles(&fields, &part);
        let (from, at) = (self.text(&fields, "from")?, fields.get("from")?);
        let (view, feature) = self.picked(at, &from, what, false)?;
        let Some(feature) = feature else {
            let message = format!("`{from}` in {part} is no one feature");
            self.wrong(at, "bad_feature", message, Some(format!("name one: `{view}.feature`")));
            return None;
        };
        Some(Label { view, feature, after: after?, keys, alias })
    }

    /// The names of keys in another role.
    fn roles(&mut self, fields: &Fields<'a>, part: &str) -> BTreeMap<Name, Name> {
        let mut keys = BTreeMap::new();
        let mut used: BTreeMap<Name, Name> = BTreeMap::new();
        for (key, (_, at)) in self.by_key(fields, "keys") {
            if let Some(to) = self.name_of(at, &format!("key `{key}` in {part}")) {
                if let Some(other) = used.insert(to.clone(), key.clone()) {
                    let message =
                        format!("keys `{other}` and `{key}` in {part} are both asked for as `{to}`");
                    self.wrong(
                        at,
                        "duplicate_value",
                        message,
                        Some("give each a name of its own".to_owned()),
                    );
                }
                keys.insert(key, to);
            }
        }
        keys
    }

    fn pick(&mut self, item: &'a Node, what: &str) -> Option<Pick> {
        match &item.data {
            Data::Scalar { value, .. } if !item.is_nothing() => {
                let (view, feature) = self.picked(item, value, what, false)?;
                Some(Pick { view, feature, keys: BTreeMap::new(), alias: None })
            }
            Data::Map { .. } => {
                let part = format!("a feature of {what}");
                let fields = self.fields(item, &keys::PICK, &part)?;
                let from = self.text(&fields, "from");
                let alias = self.name(&fields, "as");
                let keys = self.roles(&fields, &part);
                let (view, feature) = self.picked(fields.get("from")?, &from?, what, true)?;
                Some(Pick { view, feature, keys, alias })
            }
            _ => {
                let message = format!("an item of `features` in {what} is a feature, not {}", item.shape());
                self.wrong(item, "wrong_value", message, Some("write `view.feature` or `view.*`".to_owned()));
                None
            }
        }
    }

    fn picked(
        &mut self,
        at: &Node,
        text: &str,
        what: &str,
        bare: bool,
    ) -> Option<(crate::Reference, Option<Name>)> {
        match parse_pick(text, bare) {
            Ok(found) => Some(found),
            Err(hint) => {
                let message = format!("`{text}` in {what} is not a feature");
                self.wrong(at, "bad_feature", message, Some(hint));
                None
            }
        }
    }
}
