//! `urja decode`: what a frame says.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use codec::tree::{self, DecodeKeys, Framing, Node};
use profiles::StatusBit;
use serde_json::{Value, json};

use super::BAD_INPUT;
use crate::cli::{Decode, DecodeFraming};

pub(super) fn run(args: &Decode, as_json: bool) -> Result<ExitCode> {
    let bytes = bytes_of(&args.bytes)?;
    let keys = DecodeKeys {
        guek: key("--guek", args.guek.as_deref())?,
        gak: key("--gak", args.gak.as_deref())?,
        gbek: key("--gbek", args.gbek.as_deref())?,
        dedicated: key("--dedicated-key", args.dedicated_key.as_deref())?,
        system_title: key("--system-title", args.system_title.as_deref())?,
    };
    let framing = match args.framing {
        DecodeFraming::Auto => Framing::Auto,
        DecodeFraming::Wrapper => Framing::Wrapper,
        DecodeFraming::Hdlc => Framing::Hdlc,
        DecodeFraming::Mbus => Framing::Mbus,
        DecodeFraming::Apdu => Framing::Apdu,
    };
    match tree::decode(&bytes, framing, &keys) {
        Ok(mut node) => {
            name_flags(&mut node);
            if as_json {
                println!("{}", json_of(&node));
            } else {
                print_tree(&node, 0);
            }
            Ok(if refused(&node) { ExitCode::from(BAD_INPUT) } else { ExitCode::SUCCESS })
        }
        Err(error) => {
            if as_json {
                println!("{}", json!({ "error": error.kind.to_string(), "offset": error.offset }));
            }
            eprintln!("urja: cannot decode: {error}");
            Ok(ExitCode::from(BAD_INPUT))
        }
    }
}

/// Hexadecimal text with spaces anywhere; `-` reads standard input.
fn bytes_of(text: &str) -> Result<Vec<u8>> {
    let given = if text == "-" { std::io::read_to_string(std::io::stdin())? } else { text.to_owned() };
    let digits: String = given.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    let bytes =
        hex::decode(digits.strip_prefix("0x").unwrap_or(&digits)).context("the bytes are not hexadecimal")?;
    ensure!(!bytes.is_empty(), "there are no bytes to decode");
    Ok(bytes)
}

fn key<const N: usize>(flag: &str, text: Option<&str>) -> Result<Option<[u8; N]>> {
    text.map(|text| fixed(flag, text)).transpose()
}

fn fixed<const N: usize>(flag: &str, text: &str) -> Result<[u8; N]> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.with_context(|| format!("{flag} takes {} hexadecimal digits", 2 * N))
}

/// Names the flags that are up in event status words and their filters: nothing else in India has 128 bits.
fn name_flags(node: &mut Node) {
    if let Some(word) = event_word(node) {
        let flag = |(bit, known): (u8, Option<&StatusBit>)| Node {
            offset: node.offset,
            name: format!("flag {bit}").into(),
            value: known.map_or("reserved", |known| known.name).to_owned(),
            authentication: None,
            children: Vec::new(),
        };
        node.children = StatusBit::up(&word).map(flag).collect();
    }
    node.children.iter_mut().for_each(name_flags);
}

fn event_word(node: &Node) -> Option<[u8; 16]> {
    let (digits, said) = node.value.split_once(' ')?;
    let is_word = node.name == "bit-string" && said.starts_with("(128 bits");
    hex::decode(digits).ok()?.try_into().ok().filter(|_| is_word)
}

/// Whether a tag in the tree did not verify.
fn refused(node: &Node) -> bool {
    node.authentication == Some(tree::Authentication::Failed) || node.children.iter().any(refused)
}

fn print_tree(node: &Node, depth: usize) {
    let value = if node.value.is_empty() { String::new() } else { format!(" {}", node.value) };
    let mark = node.authentication.map(|found| format!("  [{}]", found.as_str())).unwrap_or_default();
    println!("{:5}  {}{}{value}{mark}", node.offset, "  ".repeat(depth), node.name);
    for child in &node.children {
        print_tree(child, depth + 1);
    }
}

fn json_of(node: &Node) -> Value {
    let mut value = json!({ "offset": node.offset, "name": node.name, "value": node.value });
    if let Some(found) = node.authentication {
        value["authentication"] = found.as_str().into();
    }
    if !node.children.is_empty() {
        value["children"] = node.children.iter().map(json_of).collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_an_event_status_word_are_named() {
        // The alert of an Indian meter, as it was captured, with a reserved flag added.
        let alert = "0f00ed9f39000204090a4858483635303030303109060004190900ff090c07ea06020204160f00feb60004818008100000000000\
                     000000400000000002";
        let mut node =
            tree::decode(&hex::decode(alert).unwrap(), Framing::Apdu, &DecodeKeys::default()).unwrap();
        name_flags(&mut node);
        let text = json_of(&node).to_string();
        for flag in [
            r#""name":"flag 4","offset":42,"value":"low voltage""#,
            r#""name":"flag 11","offset":42,"value":"over current""#,
            r#""name":"flag 81","offset":42,"value":"magnetic disturbance""#,
            r#""name":"flag 126","offset":42,"value":"reserved""#,
        ] {
            assert!(text.contains(flag), "{flag} is not in {text}");
        }
    }
}
