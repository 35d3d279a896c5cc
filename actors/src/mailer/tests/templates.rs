//! Templates, and what is wrong with some.

use serde_json::json;

use super::*;

fn one(subject: &str, text: Option<&str>, html: Option<&str>) -> Result<Templates, TemplateError> {
    let mut templates = Templates::new();
    templates.add("t", subject, text, html)?;
    Ok(templates)
}

#[track_caller]
fn error(subject: &str, text: &str, context: serde_json::Value) -> TemplateError {
    one(subject, Some(text), None).unwrap().render("t", context).unwrap_err()
}

#[test]
fn values_are_escaped_in_html_only() {
    let templates = one("{{ v }}", Some("{{ v }}"), Some("<p>{{ v }}</p>")).unwrap();
    let mail = templates.render("t", json!({"v": "<b>&\"'"})).unwrap();
    assert_eq!(mail.subject.as_str(), "<b>&\"'");
    assert_eq!(mail.text, "<b>&\"'");
    assert_eq!(mail.html.unwrap(), "<p>&lt;b&gt;&amp;&quot;&#x27;</p>");
}

#[test]
fn values_are_escaped_in_what_html_includes_too() {
    let mut templates = Templates::new();
    templates.add_shared("layout.html", "<main>{% block b %}{% endblock %}</main>").unwrap();
    templates.add_shared("name.html", "{{ name }}").unwrap();
    let html = "{% extends 'layout.html' %}{% block b %}{% include 'name.html' %}{% endblock %}";
    templates.add("t", "Hi", None, Some(html)).unwrap();
    let mail = templates.render("t", json!({"name": "<x>"})).unwrap();
    assert_eq!(mail.html.unwrap(), "<main>&lt;x&gt;</main>");
    assert_eq!(mail.text, "<x>");
    let taken = templates.add_shared("layout.html", "");
    assert_eq!(taken, Err(TemplateError::Name("layout.html".into())));
}

#[test]
fn a_value_that_is_not_given_is_an_error() {
    let undefined = TemplateError::Undefined { template: "t.txt".into(), line: 2 };
    assert_eq!(error("Hi", "\n{{ name }}", json!({})), undefined);
    assert_eq!(error("Hi", "\n{% if name %}x{% endif %}", json!({})), undefined);
    let given = one("Hi", Some("{{ name | default('you') }}"), None).unwrap();
    assert_eq!(given.render("t", json!({})).unwrap().text, "you");
}

#[test]
fn a_line_end_in_a_value_cannot_reach_the_subject() {
    let injected = json!({"name": "x\r\nBcc: all@example.com"});
    let refused = TemplateError::Subject(HeaderError::ControlCharacter);
    assert_eq!(error("Hi {{ name }}", "x", injected), refused);
    assert_eq!(error("Hi {{ name }}", "x", json!({"name": "x\n"})), refused);
    let long = json!({"name": "x".repeat(998)});
    let refused = TemplateError::Subject(HeaderError::TooLong { bytes: 999, limit: 998 });
    assert_eq!(error("y{{ name }}", "x", long), refused);
    // The template's own lines are no fault.
    let templates = one("Hi\n  {% if true %}\nyou\n{% endif %}\n", Some("x"), None).unwrap();
    assert_eq!(templates.render("t", json!({})).unwrap().subject.as_str(), "Hi you");
}

#[test]
fn what_is_wrong_is_found_when_it_is_added() {
    let syntax = one("Hi", Some("a\n{% if %}"), None).unwrap_err();
    assert!(
        matches!(syntax, TemplateError::Syntax { line: 2, ref template, .. } if **template == *"t.txt")
    );
    assert_eq!(one("Hi", None, None).unwrap_err(), TemplateError::NoBody("t".into()));
    let mut templates = one("Hi", Some("x"), None).unwrap();
    for name in ["t", "", "a.b", "a/b"] {
        let error = templates.add(name, "Hi", Some("x"), None).unwrap_err();
        assert_eq!(error, TemplateError::Name(name.into()));
    }
    let unknown = templates.render("other", json!({})).unwrap_err();
    assert_eq!(unknown, TemplateError::Unknown("other".into()));
}

#[test]
fn work_and_output_have_limits() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    let error_of = |text: &str| error("Hi", text, json!({"kilo": "x".repeat(1024)}));
    assert_eq!(error_of(endless), TemplateError::TooMuchWork("t.txt".into()));
    let of = |kilos: usize| format!("{{% for a in range({kilos}) %}}{{{{ kilo }}}}{{% endfor %}}");
    let full = one("Hi", Some(&of(5 * 1024)), None).unwrap();
    let full = full.render("t", json!({"kilo": "x".repeat(1024)})).unwrap();
    assert_eq!(full.text.len(), Mail::BODY_LIMIT);
    let more = format!("{}x", of(5 * 1024));
    assert_eq!(error_of(&more), TemplateError::TooLarge("t.txt".into()));
}

#[test]
fn no_error_tells_a_value() {
    let secret = json!({"v": "s3cret", "list": ["s3cret"]});
    for text in ["{{ v.x.y }}", "{{ v | int }}", "{{ v + 1 }}", "{{ list.v() }}", "{{ v | nope }}"]
    {
        let Ok(templates) = one("Hi", Some(text), None) else { continue };
        let error = templates.render("t", &secret).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("s3cret"), "{error:?}");
    }
}

#[test]
fn what_comes_out_goes_into_a_mail() {
    let templates = one("Hi {{ n }}", None, Some("<p>Hello {{ n }}</p>")).unwrap();
    let rendered = templates.render("t", json!({"n": "Jane"})).unwrap();
    assert!(!format!("{rendered:?} {templates:?}").contains("Jane"));
    let mail = rendered.into_mail(plain()).build().unwrap();
    assert_eq!(mail.subject().as_str(), "Hi Jane");
    assert_eq!((mail.text(), mail.html()), (Some("Hello Jane"), Some("<p>Hello Jane</p>")));
}
