//! Reads what a server said, and finds what is no HTTP in it.

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) closes: bool,
    pub(crate) body: Vec<u8>,
}

/// All answers of a connection that has ended; what is wrong with them, where something is.
pub(crate) fn read_all(mut bytes: &[u8]) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let answer = read_one(&mut bytes)?;
        if answer.closes && !bytes.is_empty() {
            return Err(format!("{} bytes follow the answer that closes the connection", bytes.len()));
        }
        // RFC 9110 section 15.2: an interim answer is none.
        if answer.status != 100 {
            answers.push(answer);
        }
    }
    match answers.iter().rev().skip(1).find(|answer| answer.closes) {
        Some(answer) => Err(format!("an answer follows {}, which closes the connection", answer.status)),
        None => Ok(answers),
    }
}

fn read_one(bytes: &mut &[u8]) -> Result<Answer, String> {
    let mut lines = Vec::new();
    loop {
        let line = take_line(bytes)?;
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let (first, fields) = lines.split_first().ok_or("an answer begins with an empty line")?;
    let status = status(first)?;
    let one = |name: &str| one_field(fields, name);
    let closes = one("Connection")? == Some("close");
    if status != 100 {
        for name in ["Date", "Primacy-Replica", "Primacy-Connection", "Server-Timing"] {
            one(name)?.ok_or_else(|| format!("a {status} has no {name}"))?;
        }
    }
    let body = match (one("Content-Length")?, one("Transfer-Encoding")?) {
        (None, None) if matches!(status, 100 | 204 | 304) => Vec::new(),
        (None, None) if closes => std::mem::take(bytes).to_vec(),
        (Some(length), None) => {
            take(bytes, length.parse().map_err(|_| format!("Content-Length is {length}"))?)?.to_vec()
        }
        (None, Some("chunked")) => take_chunks(bytes)?,
        framing => return Err(format!("a {status} is framed by {framing:?}")),
    };
    if !matches!(status, 100 | 204 | 304) {
        check_body(status, &body)?;
    }
    Ok(Answer { status, closes, body })
}

fn status(line: &str) -> Result<u16, String> {
    let (digits, reason) = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split_once(' ')).ok_or(line)?;
    let status = digits.parse().map_err(|_| line.to_owned())?;
    match (100..600).contains(&status) && digits.len() == 3 && !reason.is_empty() {
        true => Ok(status),
        false => Err(format!("the status line is {line:?}")),
    }
}

fn one_field<'a>(fields: &[&'a str], name: &str) -> Result<Option<&'a str>, String> {
    let mut found = None;
    for field in fields {
        let (field, value) = field.split_once(": ").ok_or_else(|| format!("no field: {field:?}"))?;
        if field.eq_ignore_ascii_case(name) && found.replace(value).is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    Ok(found)
}

/// Every body is JSON, and tells the status where that is an error.
fn check_body(status: u16, body: &[u8]) -> Result<(), String> {
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("the body of a {status} is no JSON: {error}"))?;
    match status < 400 || json["res"] == status && json["code"].is_string() && json["msg"].is_string() {
        true => Ok(()),
        false => Err(format!("the body of a {status} is {json}")),
    }
}

fn take_chunks(bytes: &mut &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let line = take_line(bytes)?;
        let size = usize::from_str_radix(line, 16).map_err(|_| format!("a chunk's size is {line:?}"))?;
        body.extend_from_slice(take(bytes, size)?);
        if !take_line(bytes)?.is_empty() {
            return Err("a chunk is longer than it says".to_owned());
        }
        if size == 0 {
            return Ok(body);
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or("the connection ends within an answer")?;
    *bytes = rest;
    Ok(taken)
}

fn take_line<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, String> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").ok_or("the connection ends within an answer's head")?;
    let line = std::str::from_utf8(take(bytes, end)?).map_err(|_| "an answer's head is no text")?;
    take(bytes, 2)?;
    match line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(line),
        false => Err(format!("a line of an answer's head is {line:?}")),
    }
}
