//! The template of a network configuration, filled with the pods' address ranges.
//!
//! A small part of Go's text/template, enough for the templates that containerd documents:
//!
//! - `{{.PodCIDR}}`: the first range.
//! - `{{range .PodCIDRRanges}}…{{end}}` and `{{range .Routes}}…{{end}}`: once for each range, or for each default route
//!   (`0.0.0.0/0`, `::/0`) of a family that the ranges have; inside, `{{.}}` is the current one.
//! - `{{range $value := …}}` and `{{range $index, $value := …}}`: the same with names, `{{$value}}`, and
//!   `{{if $index}}…{{end}}` for all but the first.
//! - `{{-` and `-}}` take the white space before and after them away.
//!
//! Everything else is refused with the action that is not understood, rather than left out.

use std::collections::HashMap;
use std::net::IpAddr;

/// An address range as it was given, and its family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRange {
    /// `address/bits`.
    pub text: String,
    /// Its address.
    pub address: IpAddr,
}

/// Why a template cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An action begins and does not end.
    #[error("\"{{{{\" without \"}}}}\"")]
    Open,
    /// A block is ended that was not begun, or the other way around.
    #[error("blocks and \"{{{{end}}}}\" do not match")]
    Unbalanced,
    /// An action that is not understood here.
    #[error("the action \"{{{{{0}}}}}\" is not supported")]
    Action(String),
}

/// A template in pieces.
#[derive(Debug)]
enum Node<'t> {
    Text(&'t str),
    /// The first range.
    First,
    /// The current one: by its name, or whatever is innermost.
    Current(Option<&'t str>),
    Each {
        list: List,
        index: Option<&'t str>,
        value: Option<&'t str>,
        body: Vec<Self>,
    },
    /// Unless the index of that name is zero.
    Later {
        index: &'t str,
        body: Vec<Self>,
    },
}

#[derive(Debug, Clone, Copy)]
enum List {
    Ranges,
    Routes,
}

/// What ends a list of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Outside,
    Block,
}

/// Blocks in blocks, at most: two lists, each with a condition in it.
const DEEPEST: usize = 4;

/// What names mean while a template is filled.
#[derive(Debug, Default)]
struct Names<'t, 'v> {
    values: HashMap<&'t str, &'v str>,
    indexes: HashMap<&'t str, usize>,
    current: Vec<&'v str>,
}

/// Fills a template.
///
/// # Errors
/// If it has something that is not supported.
pub fn fill(template: &str, ranges: &[PodRange]) -> Result<String, TemplateError> {
    let mut pieces = Pieces { rest: template };
    let nodes = pieces.nodes(Level::Outside, DEEPEST)?;
    let texts: Vec<&str> = ranges.iter().map(|range| range.text.as_str()).collect();
    let routes = routes(ranges);
    let mut filled = String::new();
    write(&nodes, (&texts, &routes), &mut Names::default(), &mut filled)?;
    Ok(filled)
}

/// The default routes of the families that there are, in the order of the ranges.
fn routes(ranges: &[PodRange]) -> Vec<&'static str> {
    let mut routes = Vec::new();
    for range in ranges {
        let route = if range.address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes
}

/// A template that is being read.
struct Pieces<'t> {
    rest: &'t str,
}

impl<'t> Pieces<'t> {
    /// Everything up to the end of this level.
    fn nodes(&mut self, level: Level, depth: usize) -> Result<Vec<Node<'t>>, TemplateError> {
        let mut nodes = Vec::new();
        loop {
            let Some((text, after)) = self.rest.split_once("{{") else {
                if level == Level::Block {
                    return Err(TemplateError::Unbalanced);
                }
                nodes.push(Node::Text(self.rest));
                return Ok(nodes);
            };
            let (action, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
            let trimmed = action.strip_prefix("- ");
            nodes.push(Node::Text(if trimmed.is_some() { text.trim_end() } else { text }));
            let action = trimmed.unwrap_or(action);
            let (action, after) = match action.strip_suffix(" -") {
                Some(action) => (action, after.trim_start()),
                None => (action, after),
            };
            self.rest = after;
            let words: Vec<&str> =
                action.split([' ', '\t', '\n', ',']).filter(|word| !word.is_empty()).collect();
            if words == ["end"] {
                return if level == Level::Block {
                    Ok(nodes)
                } else {
                    Err(TemplateError::Unbalanced)
                };
            }
            nodes.push(self.node(action, &words, depth)?);
        }
    }

    fn node(
        &mut self,
        action: &str,
        words: &[&'t str],
        depth: usize,
    ) -> Result<Node<'t>, TemplateError> {
        let unknown = || TemplateError::Action(action.to_owned());
        let depth = depth.checked_sub(1).ok_or_else(unknown)?;
        let (index, value, list) = match *words {
            [".PodCIDR"] => return Ok(Node::First),
            ["."] => return Ok(Node::Current(None)),
            [name] if is_name(name) => return Ok(Node::Current(Some(name))),
            ["if", index] if is_name(index) => {
                return Ok(Node::Later { index, body: self.nodes(Level::Block, depth)? });
            }
            ["range", list] => (None, None, list),
            ["range", value, ":=", list] if is_name(value) => (None, Some(value), list),
            ["range", index, value, ":=", list] if is_name(index) && is_name(value) => {
                (Some(index), Some(value), list)
            }
            _ => return Err(unknown()),
        };
        let list = match list {
            ".PodCIDRRanges" => List::Ranges,
            ".Routes" => List::Routes,
            _ => return Err(unknown()),
        };
        Ok(Node::Each { list, index, value, body: self.nodes(Level::Block, depth)? })
    }
}

fn is_name(word: &str) -> bool {
    word.strip_prefix('$').is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

fn write<'t, 'v>(
    nodes: &[Node<'t>],
    lists: (&'v [&'v str], &'v [&'v str]),
    names: &mut Names<'t, 'v>,
    filled: &mut String,
) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => filled.push_str(text),
            Node::First => filled.push_str(lists.0.first().copied().unwrap_or_default()),
            Node::Current(name) => filled.push_str(names.value(*name)?),
            Node::Later { index, body } => {
                let at = names.indexes.get(index);
                let at = at.ok_or_else(|| TemplateError::Action(format!("if {index}")))?;
                if *at > 0 {
                    write(body, lists, names, filled)?;
                }
            }
            Node::Each { list, index, value, body } => {
                let list = match list {
                    List::Ranges => lists.0,
                    List::Routes => lists.1,
                };
                for (at, text) in list.iter().enumerate() {
                    names.current.push(text);
                    names.values.extend(value.map(|name| (name, *text)));
                    names.indexes.extend(index.map(|name| (name, at)));
                    write(body, lists, names, filled)?;
                    names.current.pop();
                }
            }
        }
    }
    Ok(())
}

impl<'v> Names<'_, 'v> {
    fn value(&self, name: Option<&str>) -> Result<&'v str, TemplateError> {
        let found = match name {
            Some(name) => self.values.get(name),
            None => self.current.last(),
        };
        found.copied().ok_or_else(|| TemplateError::Action(name.unwrap_or(".").to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<PodRange> {
        let range = |text: &&str| PodRange {
            text: (*text).to_owned(),
            address: text.split('/').next().unwrap().parse().unwrap(),
        };
        texts.iter().map(range).collect()
    }

    #[test]
    fn what_the_documents_of_templates_show_is_filled() {
        let dual = ranges(&["10.1.0.0/24", "fd00:1::/64"]);
        for (template, filled) in [
            ("plain", "plain"),
            (r#""subnet": "{{.PodCIDR}}""#, r#""subnet": "10.1.0.0/24""#),
            ("{{ .PodCIDR }}", "10.1.0.0/24"),
            (
                r#"[{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$range}}"}]{{end}}]"#,
                r#"[[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]"#,
            ),
            (
                r#"{{range $i, $route := .Routes}}{{if $i}},{{end}}{"dst":"{{$route}}"}{{end}}"#,
                r#"{"dst":"0.0.0.0/0"},{"dst":"::/0"}"#,
            ),
            ("{{range .PodCIDRRanges}}<{{.}}>{{end}}", "<10.1.0.0/24><fd00:1::/64>"),
            ("{{range $one := .Routes}}<{{$one}}>{{end}}", "<0.0.0.0/0><::/0>"),
            ("a \n{{- .PodCIDR -}}\n b", "a10.1.0.0/24b"),
            ("a \n{{- range .Routes -}} x{{.}} {{- end }} b", "ax0.0.0.0/0x::/0 b"),
        ] {
            assert_eq!(fill(template, &dual).as_deref(), Ok(filled), "{template}");
        }
        assert_eq!(fill("{{range .Routes}}{{.}}{{end}}", &ranges(&["::/8"])).unwrap(), "::/0");
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let one = ranges(&["10.1.0.0/24"]);
        for (template, error) in [
            ("{{.Nothing}}", TemplateError::Action(".Nothing".to_owned())),
            ("{{.PodCIDR | quote}}", TemplateError::Action(".PodCIDR | quote".to_owned())),
            ("{{/* note */}}", TemplateError::Action("/* note */".to_owned())),
            ("{{$x}}", TemplateError::Action("$x".to_owned())),
            ("{{.}}", TemplateError::Action(".".to_owned())),
            ("{{range .Other}}{{end}}", TemplateError::Action("range .Other".to_owned())),
            ("{{if $i}}{{end}}", TemplateError::Action("if $i".to_owned())),
            ("{{.PodCIDR", TemplateError::Open),
            ("{{end}}", TemplateError::Unbalanced),
            ("{{range .Routes}}", TemplateError::Unbalanced),
        ] {
            assert_eq!(fill(template, &one), Err(error), "{template}");
        }
        fill(&"{{range .Routes}}".repeat(100_000), &one).unwrap_err();
    }
}
