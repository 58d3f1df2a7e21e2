//! Reading model-written text: lines, fenced code, what follows a marker. Never panics, whatever the text.

/// The text behind a byte order mark at its beginning.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Byte spans of the non-empty lines, without the white space around them.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut start = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let from = start;
        start += line.len();
        let trimmed = line.trim();
        if trimmed.is_empty() {
            return None;
        }
        let lead = line.len() - line.trim_start().len();
        Some((from + lead, from + lead + trimmed.len()))
    })
}

/// What follows the first `marker`, up to the end of that line, trimmed.
pub fn after<'a>(text: &'a str, marker: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(marker)?;
    Some(rest.split('\n').next().unwrap_or("").trim())
}

/// The body of the first fenced code block, whatever its language.
pub fn fenced(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("```")?;
    let (_, body) = rest.split_once('\n')?;
    Some(body.split("```").next().unwrap_or(body))
}

/// The text before the first of these stops, each looked for at the start of a line.
pub fn before_line<'a>(text: &'a str, stops: &[&str]) -> &'a str {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if stops.iter().any(|stop| line.starts_with(stop)) {
            return &text[..start];
        }
        start += line.len();
    }
    text
}
