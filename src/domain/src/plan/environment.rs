//! The environment of a process: ordered, one value for each name, and shown without its values, which may be secrets.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

/// Names and values in order.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// Gives a name its value unless it has one.
    pub fn set_default(&mut self, name: &str, value: &str) {
        if self.value(name).is_none() {
            self.0.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The value of a name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `NAME=value` each, as execve(2) takes them.
    pub fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}"))
    }
}

impl FromIterator<(String, String)> for Environment {
    /// A later value of a name takes the place of an earlier one.
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        // Pods with links to thousands of services have as many variables: look names up, don't search for them.
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut variables: Vec<(String, String)> = Vec::new();
        for (name, value) in pairs {
            match places.get(&name).and_then(|place| variables.get_mut(*place)) {
                Some(variable) => variable.1 = value,
                None => {
                    places.insert(name.clone(), variables.len());
                    variables.push((name, value));
                }
            }
        }
        Self(variables)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_value_takes_the_place_of_an_earlier_one() {
        let pairs = [("A", "1"), ("B", "2"), ("A", "3")];
        let mut environment: Environment =
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        environment.set_default("B", "ignored");
        environment.set_default("C", "4");
        assert_eq!(environment.entries().collect::<Vec<_>>(), ["A=3", "B=2", "C=4"]);
    }

    #[test]
    fn values_are_not_shown() {
        let mut environment = Environment::default();
        environment.set_default("PASSWORD", "secret");
        assert_eq!(format!("{environment:?}"), r#"["PASSWORD"]"#);
    }
}
