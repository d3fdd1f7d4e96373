//! Text as markup, in HTML and in SVG alike.

use super::document::visible;

/// Text of an image as text, in content and in quoted attributes: nothing in it acts as HTML, nothing disturbs the line.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// The longest option that is kept on one line, in bytes: longer ones would not fit on a telephone.
const UNBROKEN: usize = 32;

/// Sentences as HTML. Options stay in one piece, though browsers break lines after hyphens.
pub(super) fn prose(text: &str) -> String {
    let word = |word: &str| {
        if word.contains("--") && word.len() <= UNBROKEN {
            format!("<span class=\"option\">{word}</span>")
        } else {
            word.to_owned()
        }
    };
    escape(text).split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stay_in_one_piece() {
        assert_eq!(prose("add --cpus 8, <b>"), "add <span class=\"option\">--cpus</span> 8, &lt;b&gt;");
        let long = "--init=/a/path/that/no/telephone/shows/in/one/line";
        assert_eq!(prose(long), long);
    }
}
