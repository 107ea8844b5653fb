//! Derived features: expressions over features, what a request brings and its time.

use super::fields::Reader;
use super::view::Body;
use crate::keys;
use crate::yaml::{Data, Node};
use crate::{Derived, Expression, Feature, REQUEST_TIME, RequestColumn};

impl<'a> Reader<'a> {
    pub(super) fn derived(&mut self, node: &'a Node, what: &str) -> Option<Derived> {
        let fields = self.fields(node, &keys::DERIVED, what)?;
        let name = self.name(&fields, "derived");
        let about = self.about(&fields);
        let mut request = Vec::new();
        if let Some(node) = fields.get("request") {
            for (column, data_type, at) in
                self.types(node, &format!("`request` of {what}")).unwrap_or_default()
            {
                if column == REQUEST_TIME {
                    let message = format!("`{REQUEST_TIME}` in `request` of {what} is always there");
                    let hint = "it is the time asked, a timestamp: remove it, or give yours another name";
                    self.wrong(at, "duplicate_value", message, Some(hint.to_owned()));
                } else if let Some(name) = self.name_of(at, &format!("a column of `request` of {what}")) {
                    request.push(RequestColumn { name, data_type });
                }
            }
        }
        let node = fields.get("features")?;
        let mut features = Vec::new();
        match &node.data {
            Data::Map { entries, .. } if !entries.is_empty() => {
                if self.torn(node, what, |_| None) {
                    return None;
                }
                for (name, key, value) in self.entries(node, &format!("`features` of {what}"))? {
                    let known = self.name_of(key, &format!("a feature of {what}"));
                    let body =
                        self.derived_feature(name, (key, value), &format!("feature `{name}` of {what}"));
                    features.extend(
                        known.zip(body).map(|(name, body): (_, Body)| -> Feature { body.named(name) }),
                    );
                }
            }
            _ => {
                let message = format!("`features` in {what} takes a map of name to expression");
                let hint = "e.g. `per_listing: price / nullif(seller_activity.listings_7d, 0)`";
                self.wrong(node, "wrong_value", message, Some(hint.to_owned()));
            }
        }
        Some(Derived { name: name?, request, features, about })
    }

    fn derived_feature(
        &mut self,
        name: &str,
        (key, value): (&'a Node, &'a Node),
        what: &str,
    ) -> Option<Body> {
        if value.is_nothing() {
            let hint = format!("e.g. `{name}: view.feature + 1`");
            self.wrong(key, "empty_value", format!("{what} has no expression"), Some(hint));
            return None;
        }
        let at_request = |text: &str| {
            Expression::parse(text).map_err(|mut error| {
                match error.code {
                    "expression_not_of_the_row" => {
                        error.message = error.message.replace("not on the row", "not on the request");
                        error.hint = Some(format!(
                            "the time asked is `{REQUEST_TIME}`; what else is of the moment comes with the `request`"
                        ));
                    }
                    "expression_aggregate" => {
                        error.message =
                            error.message.replace("this expression is over one", "a request has one");
                        error.hint =
                            Some("aggregate in a view with windows, and name its feature here".to_owned());
                    }
                    _ => {}
                }
                error
            })
        };
        if !matches!(value.data, Data::Map { .. }) {
            return Some(Body::of(self.sql_of(value, name, what, at_request)?));
        }
        let fields = self.fields(value, &keys::DERIVED_FEATURE, what)?;
        let sensitivity = self.text(&fields, "sensitivity");
        let about = self.about(&fields);
        let node = fields.get("expr")?;
        let expression = self.sql_of(node, "expr", &format!("`expr` in {what}"), at_request)?;
        Some(Body { sensitivity, about, ..Body::of(expression) })
    }
}
