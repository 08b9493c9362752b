//! `hey`'s command line.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Method, Url};

/// Defaults of `hey`.
const REQUESTS: u64 = 200;
const WORKERS: u64 = 50;
const TIMEOUT: Duration = Duration::from_secs(20);
const CONTENT: &str = "text/html";
const AGENT: &str = "hey/0.0.1";
/// Most concurrent workers: each holds a connection and a task.
const WORKERS_MAX: u64 = 1_000;
/// Longest run: a load test outlives no release.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A parsed line.
#[derive(Debug, Clone)]
pub struct Flags {
    /// Where to.
    pub url: Url,
    /// When to stop.
    pub until: Until,
    /// Concurrent workers (`-c`).
    pub workers: u64,
    /// Requests per second for each worker (`-q`).
    pub rate: Option<f64>,
    /// Method (`-m`).
    pub method: Method,
    /// Headers (`-H`, `-A`, `-T`, `-U`, `-a`, `-host`).
    pub headers: HeaderMap,
    /// Body (`-d`, `-D`).
    pub body: Body,
    /// Timeout of a request (`-t`); none with 0.
    pub timeout: Option<Duration>,
    /// Proxy (`-x`).
    pub proxy: Option<String>,
    /// A connection for each request (`-disable-keepalive`).
    pub no_keepalive: bool,
    /// Redirects are answers (`-disable-redirects`).
    pub no_redirects: bool,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After so many requests of all workers (`-n`).
    Requests(u64),
    /// After a time (`-z`).
    Elapsed(Duration),
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// This text.
    Text(String),
    /// A file's content.
    File(String),
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagsError {
    /// Not one of hey's flags.
    #[error("hey has no flag {0:?}")]
    Unknown(String),
    /// One of hey's flags that the built-in generator does not have.
    #[error("hey's flag {0:?} is not supported by the built-in load generator: {1}")]
    Unsupported(String, &'static str),
    /// A flag without its value.
    #[error("hey's flag {0:?} needs a value")]
    NoValue(String),
    /// A value that cannot be read.
    #[error("hey's flag {flag:?} cannot take {value:?}: {expected}")]
    Value {
        /// The flag.
        flag: String,
        /// Its value.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// No URL, or more than one.
    #[error("hey takes exactly one URL, after the flags; found {0}")]
    Url(usize),
    /// The URL cannot be read.
    #[error("hey cannot request {url:?}: {cause}")]
    BadUrl {
        /// What was given.
        url: String,
        /// Why.
        cause: String,
    },
    /// Fewer requests than workers.
    #[error("hey's -n ({requests}) cannot be less than -c ({workers})")]
    TooFew {
        /// `-n`.
        requests: u64,
        /// `-c`.
        workers: u64,
    },
}

impl Flags {
    /// How long it runs, if that is what ends it.
    pub fn lasts(&self) -> Option<Duration> {
        match self.until {
            Until::Elapsed(time) => Some(time),
            Until::Requests(_) => None,
        }
    }

    /// Reads the arguments after `hey`.
    ///
    /// # Errors
    /// When an argument is unknown, not supported or has a wrong value.
    pub fn parse(arguments: &[String]) -> Result<Self, FlagsError> {
        let mut reader = Reader::new();
        let mut rest = arguments.iter();
        let mut urls: Vec<&String> = Vec::new();
        while let Some(argument) = rest.next() {
            // As Go's flag package: flags end at the first argument that is none, or after `--`.
            let Some(flag) = argument.strip_prefix('-').filter(|flag| !flag.is_empty() && *flag != "-") else {
                urls.extend((argument != "--").then_some(argument));
                urls.extend(rest.by_ref());
                break;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            if !reader.switch(name, inline)? {
                let value = match inline {
                    Some(value) => value,
                    None => rest.next().ok_or_else(|| FlagsError::NoValue(argument.clone()))?,
                };
                reader.value(name, value)?;
            }
        }
        let [url] = urls.as_slice() else { return Err(FlagsError::Url(urls.len())) };
        reader.finish(url)
    }
}

/// The flags as they are read.
struct Reader {
    requests: u64,
    duration: Option<Duration>,
    workers: u64,
    rate: Option<f64>,
    method: Method,
    headers: HeaderMap,
    body: Body,
    timeout: Option<Duration>,
    proxy: Option<String>,
    no_keepalive: bool,
    no_redirects: bool,
}

impl Reader {
    fn new() -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        Self {
            requests: REQUESTS,
            duration: None,
            workers: WORKERS,
            rate: None,
            method: Method::GET,
            headers,
            body: Body::Text(String::new()),
            timeout: Some(TIMEOUT),
            proxy: None,
            no_keepalive: false,
            no_redirects: false,
        }
    }

    /// Takes a flag without a value; false when `name` is none.
    fn switch(&mut self, name: &str, inline: Option<&str>) -> Result<bool, FlagsError> {
        let on = match inline {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some(_) => false,
        };
        match name {
            "disable-keepalive" => self.no_keepalive = on,
            "disable-redirects" => self.no_redirects = on,
            // Nothing is compressed and details are not printed either way.
            "disable-compression" | "more" => {}
            "h2" => return Err(FlagsError::Unsupported("-h2".to_owned(), "it speaks HTTP/1.1 only")),
            "h" | "help" => {
                return Err(FlagsError::Unsupported(format!("-{name}"), "it runs load, it prints no help"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn value(&mut self, name: &str, value: &str) -> Result<(), FlagsError> {
        match name {
            "n" => self.requests = positive(name, value, u64::MAX, "a number of requests")?,
            "c" => self.workers = positive(name, value, WORKERS_MAX, "a number of workers from 1 to 1000")?,
            "q" => self.rate = rate(value)?,
            "z" => self.duration = Some(duration(value)?),
            "t" => {
                let seconds: u64 = number(name, value, "a number of seconds")?;
                self.timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
            "m" => {
                let method = Method::from_bytes(value.to_ascii_uppercase().as_bytes());
                self.method = method.map_err(|_| wrong(name, value, "an HTTP method"))?;
            }
            "H" => {
                let (header, text) = value.split_once(':').ok_or_else(|| wrong(name, value, "Name: value"))?;
                let header = HeaderName::from_bytes(header.trim().as_bytes())
                    .map_err(|_| wrong(name, value, "Name: value"))?;
                self.header(name, header, text.trim())?;
            }
            "A" => self.header(name, ACCEPT, value)?,
            "T" => self.header(name, CONTENT_TYPE, value)?,
            "U" => self.header(name, USER_AGENT, &format!("{value} {AGENT}"))?,
            "host" => self.header(name, HOST, value)?,
            "a" => self.header(name, AUTHORIZATION, &format!("Basic {}", base64(value.as_bytes())))?,
            "d" => self.body = Body::Text(value.to_owned()),
            "D" => self.body = Body::File(value.to_owned()),
            "x" => {
                let url = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
                self.proxy = Some(url);
            }
            // How many processors are used is the runtime's choice.
            "cpus" => {}
            "o" => return Err(FlagsError::Unsupported("-o".to_owned(), "it prints its summary only")),
            _ => return Err(FlagsError::Unknown(format!("-{name}"))),
        }
        Ok(())
    }

    fn header(&mut self, flag: &str, name: HeaderName, value: &str) -> Result<(), FlagsError> {
        let text = HeaderValue::from_str(value).map_err(|_| wrong(flag, value, "visible ASCII characters"))?;
        self.headers.insert(name, text);
        Ok(())
    }

    fn finish(self, url: &str) -> Result<Flags, FlagsError> {
        let Self {
            requests,
            duration,
            workers,
            rate,
            method,
            headers,
            body,
            timeout,
            proxy,
            no_keepalive,
            no_redirects,
        } = self;
        let bad_url = |cause: String| FlagsError::BadUrl { url: url.to_owned(), cause };
        let parsed = Url::parse(url).map_err(|error| bad_url(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad_url("it is neither http nor https".to_owned()));
        }
        let until = match duration {
            Some(duration) => Until::Elapsed(duration),
            None if requests < workers => return Err(FlagsError::TooFew { requests, workers }),
            None => Until::Requests(requests),
        };
        Ok(Flags {
            url: parsed,
            until,
            workers,
            rate,
            method,
            headers,
            body,
            timeout,
            proxy,
            no_keepalive,
            no_redirects,
        })
    }
}

fn wrong(flag: &str, value: &str, expected: &'static str) -> FlagsError {
    FlagsError::Value { flag: format!("-{flag}"), value: value.to_owned(), expected }
}

fn number<T: std::str::FromStr>(flag: &str, value: &str, expected: &'static str) -> Result<T, FlagsError> {
    value.parse().map_err(|_| wrong(flag, value, expected))
}

fn positive(flag: &str, value: &str, max: u64, expected: &'static str) -> Result<u64, FlagsError> {
    let number: u64 = number(flag, value, expected)?;
    if number == 0 || number > max { Err(wrong(flag, value, expected)) } else { Ok(number) }
}

/// Zero is no limit, as in hey.
fn rate(value: &str) -> Result<Option<f64>, FlagsError> {
    const EXPECTED: &str = "requests per second, 0 or from 0.001 to 1000000";
    /// Beyond these the time between two requests is none, or longer than any test.
    const SENSIBLE: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
    let rate: f64 = number("q", value, EXPECTED)?;
    match rate {
        0.0 => Ok(None),
        rate if SENSIBLE.contains(&rate) => Ok(Some(rate)),
        _ => Err(wrong("q", value, EXPECTED)),
    }
}

/// Go's notation, `1h2m3.5s` or `250ms`.
fn duration(value: &str) -> Result<Duration, FlagsError> {
    let error = || wrong("z", value, "a duration such as 30s, 1m30s or 500ms, up to 24h");
    let mut total = 0.0;
    let mut rest = value;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (amount, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(error()),
        };
        total += amount.parse::<f64>().map_err(|_| error())? * seconds;
        rest = tail;
    }
    let duration = Duration::try_from_secs_f64(total).map_err(|_| error())?;
    if duration.is_zero() || duration > DURATION_MAX { Err(error()) } else { Ok(duration) }
}

/// Standard Base64 with padding, for `-a`.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| ALPHABET.get((bits & 63) as usize).map_or('=', |byte| char::from(*byte));
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            let third = if chunk.len() > 1 { digit(bits >> 6) } else { '=' };
            let fourth = if chunk.len() > 2 { digit(bits) } else { '=' };
            [digit(bits >> 18), digit(bits >> 12), third, fourth]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, FlagsError> {
        Flags::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn reads_the_lines_in_use() {
        let flags = parse("-z 1m -q 10 -c 2 http://podinfo-canary.test:9898/").unwrap();
        assert_eq!(flags.until, Until::Elapsed(Duration::from_secs(60)));
        assert_eq!((flags.workers, flags.rate), (2, Some(10.0)));
        assert_eq!(flags.url.as_str(), "http://podinfo-canary.test:9898/");
        assert_eq!(flags.timeout, Some(TIMEOUT));

        let flags = parse(
            "-n=400 --c=4 -m post -H X-A:b -T a/b -A c/d -d x -t 0 -host h -a u:pw -disable-keepalive http://a",
        )
        .unwrap();
        assert_eq!(flags.until, Until::Requests(400));
        assert_eq!(flags.method, Method::POST);
        assert_eq!(flags.headers["x-a"], "b");
        assert_eq!(flags.headers["content-type"], "a/b");
        assert_eq!(flags.headers["host"], "h");
        assert_eq!(flags.headers["authorization"], "Basic dTpwdw==");
        assert_eq!((flags.body, flags.timeout), (Body::Text("x".to_owned()), None));
        assert!(flags.no_keepalive && !flags.no_redirects);
        assert_eq!(parse("-z 1m1.5s http://a").unwrap().until, Until::Elapsed(Duration::from_millis(61_500)));
    }

    #[test]
    fn says_what_is_wrong() {
        for (line, part) in [
            ("-q 1e10 http://a", "requests per second"),
            ("-q 1e-30 http://a", "requests per second"),
            ("-q NaN http://a", "requests per second"),
            ("-q -1 http://a", "requests per second"),
            ("-q inf http://a", "requests per second"),
            ("-h2 http://a", "\"-h2\" is not supported"),
            ("-o csv http://a", "\"-o\" is not supported"),
            ("-w 3 http://a", "no flag \"-w\""),
            ("-z", "\"-z\" needs a value"),
            ("-z 1 http://a", "a duration such as 30s"),
            ("-c 0 http://a", "a number of workers"),
            ("-n 5 -c 10 http://a", "cannot be less than"),
            ("-n 5", "exactly one URL"),
            ("-c 2 http://a http://b", "found 2"),
            ("ftp://a", "neither http nor https"),
            ("podinfo.test:9898", "neither http nor https"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
