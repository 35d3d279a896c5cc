//! Subjects, texts and HTML from templates.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;

use super::header::{HeaderError, HeaderText};
use super::html_text::html_to_text;
use super::mail::{Mail, MailBuilder};
use crate::kernel::{Code, Fault};

/// Why a template cannot be used. It never tells a value that was put into one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// No template has this name: correct it, or add the template at start.
    #[error("there is no template `{0}`")]
    Unknown(Arc<str>),
    /// Two templates have one name, or one has a name that is empty or has a dot or slash.
    #[error("`{0}` is taken, or no name for a template")]
    Name(Arc<str>),
    /// The template has neither text nor HTML.
    #[error("template `{0}` has neither text nor HTML")]
    NoBody(Arc<str>),
    /// The template is written wrongly: correct it.
    #[error("`{template}`, line {line}: {reason}")]
    Syntax {
        /// Which, with its ending: `.subject`, `.txt` or `.html`.
        template: Arc<str>,
        /// Where in it.
        line: usize,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// The template wants a value that it was not given: give it, or correct the template.
    #[error("`{template}`, line {line}, needs a value that was not given")]
    Undefined {
        /// Which, with its ending.
        template: Arc<str>,
        /// Where in it.
        line: usize,
    },
    /// The template does with a value what cannot be done with it.
    #[error("`{template}`, line {line}: {reason}")]
    Failed {
        /// Which, with its ending.
        template: Arc<str>,
        /// Where in it.
        line: usize,
        /// What kind of failure it is.
        reason: Arc<str>,
    },
    /// The template does more than [`Templates::FUEL`] allows: give it less.
    #[error("`{0}` takes too much work")]
    TooMuchWork(Arc<str>),
    /// The output is larger than a mail may be: give it less.
    #[error("`{0}` makes more than a mail may have")]
    TooLarge(Arc<str>),
    /// The subject that came out cannot stand in a header, mostly for a line break in a value.
    #[error("the subject cannot stand in a header")]
    Subject(#[source] HeaderError),
}

impl Fault for TemplateError {
    fn code(&self) -> Code {
        match self {
            Self::Unknown(_) => Code::new("mailer.template_unknown"),
            Self::Name(_) => Code::new("mailer.template_name"),
            Self::NoBody(_) => Code::new("mailer.template_no_body"),
            Self::Syntax { .. } => Code::new("mailer.template_syntax"),
            Self::Undefined { .. } => Code::new("mailer.template_undefined"),
            Self::Failed { .. } => Code::new("mailer.template_failed"),
            Self::TooMuchWork(_) => Code::new("mailer.template_too_much_work"),
            Self::TooLarge(_) => Code::new("mailer.template_too_large"),
            Self::Subject(_) => Code::new("mailer.template_subject"),
        }
    }
}

/// What mails are made from, in the language of Jinja ([`minijinja`]).
///
/// Values are escaped in HTML. One that is not given is an error, not an empty place. A template
/// without a text gets one from its HTML.
///
/// ```
/// use steadfast_actors::mailer::{TemplateError, Templates};
///
/// let mut templates = Templates::new();
/// templates.add(
///     "welcome",
///     "Welcome, {{ name }}",
///     None,
///     Some("<p>Hello {{ name }},</p><p><a href=\"{{ link }}\">begin here</a>.</p>"),
/// )?;
/// let context = serde_json::json!({ "name": "Jane <3", "link": "https://example.com/" });
/// let mail = templates.render("welcome", context)?;
/// assert_eq!(mail.subject.as_str(), "Welcome, Jane <3");
/// assert_eq!(mail.text, "Hello Jane <3,\n\nbegin here (https://example.com/).");
/// assert!(mail.html.is_some_and(|html| html.contains("Jane &lt;3")));
/// # Ok::<(), TemplateError>(())
/// ```
pub struct Templates {
    environment: Environment<'static>,
    parts: HashMap<Arc<str>, Parts>,
}

#[derive(Clone, Copy)]
struct Parts {
    text: bool,
    html: bool,
}

/// What came out of a template.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The subject: one line.
    pub subject: HeaderText,
    /// The text.
    pub text: String,
    /// The HTML, if the template has it.
    pub html: Option<String>,
}

impl Templates {
    /// LIMIT: steps of work for each part of a template; some per value and turn of a loop.
    pub const FUEL: u64 = 1_000_000;

    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(Self::FUEL));
        environment.set_auto_escape_callback(|name| {
            if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
        });
        Self { environment, parts: HashMap::new() }
    }

    /// Adds a template. With HTML and no text, the text is made from the HTML. Line ends in the
    /// subject's template count as spaces.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] says what to correct. Add templates at start, so that it is found then.
    pub fn add(
        &mut self,
        name: &str,
        subject: &str,
        text: Option<&str>,
        html: Option<&str>,
    ) -> Result<(), TemplateError> {
        let name: Arc<str> = name.into();
        if !is_name(&name) || self.parts.contains_key(&name) {
            return Err(TemplateError::Name(name));
        }
        let parts = Parts { text: text.is_some(), html: html.is_some() };
        if !parts.text && !parts.html {
            return Err(TemplateError::NoBody(name));
        }
        self.add_part(format!("{name}.subject"), &subject.replace(['\r', '\n'], " "))?;
        for (ending, part) in [("txt", text), ("html", html)] {
            if let Some(part) = part {
                self.add_part(format!("{name}.{ending}"), part)?;
            }
        }
        self.parts.insert(name, parts);
        Ok(())
    }

    /// Adds a part that templates include or extend, under its full name. Values in it are escaped
    /// if that ends in `.html`.
    ///
    /// # Errors
    ///
    /// [`TemplateError::Name`] and [`TemplateError::Syntax`].
    pub fn add_shared(&mut self, full_name: &str, source: &str) -> Result<(), TemplateError> {
        if self.environment.get_template(full_name).is_ok() {
            return Err(TemplateError::Name(full_name.into()));
        }
        self.add_part(full_name.to_owned(), source)
    }

    fn add_part(&mut self, full_name: String, source: &str) -> Result<(), TemplateError> {
        let template: Arc<str> = full_name.as_str().into();
        let added = self.environment.add_template_owned(full_name, source.to_owned());
        added.map_err(|error| TemplateError::Syntax {
            template,
            line: error.line().unwrap_or(1),
            // Of the template's own text: there are no values yet.
            reason: error.detail().unwrap_or("it cannot be read").into(),
        })
    }

    /// Makes a mail's parts.
    ///
    /// # Errors
    ///
    /// [`TemplateError`]; the same values give the same error again.
    pub fn render(&self, name: &str, context: impl Serialize) -> Result<Rendered, TemplateError> {
        let parts = *self.parts.get(name).ok_or_else(|| TemplateError::Unknown(name.into()))?;
        let context = Value::from(Serde(context));
        let subject = self.part(name, "subject", &context)?;
        let html = parts.html.then(|| self.part(name, "html", &context)).transpose()?;
        let text = if parts.text {
            self.part(name, "txt", &context)?
        } else {
            html.as_deref().map(html_to_text).unwrap_or_default()
        };
        Ok(Rendered { subject: one_line(&subject)?, text, html })
    }

    fn part(&self, name: &str, ending: &str, context: &Value) -> Result<String, TemplateError> {
        let full_name = format!("{name}.{ending}");
        let mut output = Bounded { bytes: Vec::new(), limit: Mail::BODY_LIMIT };
        let template = self.environment.get_template(&full_name);
        let rendered = template.and_then(|template| {
            template.render_captured_to(context.clone(), &mut output).map(drop)
        });
        rendered.map_err(|error| failure(&full_name, &error))?;
        String::from_utf8(output.bytes).map_err(|_defect| TemplateError::Failed {
            template: full_name.into(),
            line: 1,
            reason: "the output is not UTF-8".into(),
        })
    }
}

impl Default for Templates {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").field("count", &self.parts.len()).finish_non_exhaustive()
    }
}

impl Rendered {
    /// Puts subject, text and HTML into a mail.
    #[must_use]
    pub fn into_mail(self, builder: MailBuilder) -> MailBuilder {
        let builder = builder.subject(self.subject).text(self.text);
        match self.html {
            Some(html) => builder.html(html),
            None => builder,
        }
    }
}

/// Shows sizes only.
impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered")
            .field("text_bytes", &self.text.len())
            .field("html_bytes", &self.html.as_ref().map(String::len))
            .finish_non_exhaustive()
    }
}

fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(known)
}

/// Spaces that the template's own lines left are drawn together. A line end that is still there
/// came with a value, and is refused.
fn one_line(subject: &str) -> Result<HeaderText, TemplateError> {
    let words: Vec<_> = subject.split(' ').filter(|word| !word.is_empty()).collect();
    HeaderText::new(words.join(" ")).map_err(TemplateError::Subject)
}

fn failure(full_name: &str, error: &minijinja::Error) -> TemplateError {
    let template: Arc<str> = error.name().unwrap_or(full_name).into();
    let line = error.line().unwrap_or(1);
    let kind = error.kind();
    if kind == ErrorKind::OutOfFuel {
        TemplateError::TooMuchWork(template)
    } else if kind == ErrorKind::WriteFailure {
        TemplateError::TooLarge(template)
    } else if kind == ErrorKind::UndefinedError {
        TemplateError::Undefined { template, line }
    } else {
        // Not the detail, which may tell a value.
        TemplateError::Failed { template, line, reason: kind.to_string().into() }
    }
}

/// An output that takes no more than its limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
