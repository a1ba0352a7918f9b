"""The part of Go's templates that is understood; each answer is that of Go's own html/template."""

from __future__ import annotations

import pytest

from athens_tx.web.gotemplate import Template, TemplateError

DATA = {"Host": "https://x:1", "NoSumPatterns": "a,b", "Odd": "<a href='x'>\"&", "Empty": ""}


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", ""),
        ("plain } }} text", "plain } }} text"),
        ("{{ .Host }}", "https://x:1"),
        ("{{.Host}}", "https://x:1"),
        ("{{$.Host}}", "https://x:1"),
        ("[{{ .Missing }}]", "[]"),
        ("{{ .Odd }}", "&lt;a href=&#39;x&#39;&gt;&#34;&amp;"),
        ("{{ if .Host }}a{{ end }}", "a"),
        ("{{ if .Empty }}a{{ end }}", ""),
        ("{{ if .Empty }}a{{ else }}b{{ end }}", "b"),
        ("{{ if .Empty }}a{{ else if .Host }}b{{ else }}c{{ end }}d", "bd"),
        ("{{ if .Empty }}a{{ else if .Missing }}b{{ else }}c{{ end }}d", "cd"),
        ("{{ if .Empty }}a{{ else if .Empty }}b{{ else if .Host }}c{{ end }}d", "cd"),
        ("{{ if .Host }}{{ if .Empty }}a{{ else }}b{{ end }}c{{ else }}d{{ end }}", "bc"),
        ("{{ with .Host }}{{ . }}{{ end }}", "https://x:1"),
        ("{{ with .Host }}{{ $.NoSumPatterns }}{{ end }}", "a,b"),
        ("{{ with .Empty }}a{{ else }}{{ .Host }}{{ end }}", "https://x:1"),
        ("{{ with .Empty }}a{{ else with .Host }}{{ . }}{{ end }}", "https://x:1"),
        ("a  {{- .Host -}}  b", "ahttps://x:1b"),
        ("a \n{{- /* note }} */ -}}\n b", "ab"),
        ("a{{/* note */}}b", "ab"),
        ("a {{ -1 }} b", "a -1 b"),
        ("a {{- 3 }} b", "a3 b"),
        ("{{ and .Host .NoSumPatterns }}", "a,b"),
        ("{{ and .Empty (len 1) }}", ""),
        ("{{ or .Empty .Host (len 1) }}", "https://x:1"),
        ("{{ or .Empty .Missing }}", ""),
        ("{{ not .Host }} {{ not .Empty }}", "false true"),
        ('{{ if eq .NoSumPatterns "a,b" }}a{{ end }}', "a"),
        ('{{ eq .NoSumPatterns "x" "a,b" }} {{ ne .Host "x" }}', "true true"),
        ("{{ lt 1 2 }} {{ le 2 2 }} {{ gt 1 2 }} {{ ge 1 2 }}", "true true false false"),
        ("{{ len .NoSumPatterns }} {{ len . }} {{ .NoSumPatterns | len }}", "3 4 3"),
        ("{{ .Odd | html }}", "&lt;a href=&#39;x&#39;&gt;&#34;&amp;"),
        ("{{ html .Odd }}", "&lt;a href=&#39;x&#39;&gt;&#34;&amp;"),
        ("{{ urlquery .Host }}", "https%3A%2F%2Fx%3A1"),
        ("{{ print 1 2 }}{{ print 1 `x` 2 }}", "1 21x2"),
        ("{{ println 1 true }}", "1 true\n"),
        ('{{ printf "%s-%v-%d-%%" .NoSumPatterns true 3 }}', "a,b-true-3-%"),
        ('{{ printf "%q" .NoSumPatterns }}', "&#34;a,b&#34;"),
        ('{{ printf "%s" }}', "%!s(MISSING)"),
        ('{{ "a\\"b" }}{{ `c\\d` }}', "a&#34;bc\\d"),
        ("{{ true }} {{ if false }}a{{ end }}", "true "),
        ("{{ (.Host) }}", "https://x:1"),
        ("{{ if and (ne .Host `x`) (or .Empty true) }}a{{ end }}", "a"),
        ("{{ . | print }}", "map[Empty: Host:https://x:1 NoSumPatterns:a,b Odd:&lt;a href=&#39;x&#39;&gt;&#34;&amp;]"),
    ],
)
def test_a_template(text: str, printed: str) -> None:
    assert Template(text).render(DATA) == printed


@pytest.mark.parametrize(
    "text",
    [
        "{{",
        "{{ .Host",
        "{{ }}",
        "{{ end }}",
        "{{ else }}",
        "{{ else if .Host }}{{ end }}",
        "{{ if }}a{{ end }}",
        "{{ if .Host }}",
        "{{ if .Host }}a{{ else }}b",
        "{{ if .Host }}a{{ else }}b{{ else }}c{{ end }}",
        "{{ if .Host }}a{{ else range .Host }}c{{ end }}",
        "{{ if .Host }}a{{ else 1 }}c{{ end }}",
        "{{ range .Host }}{{ end }}",
        '{{ define "x" }}{{ end }}',
        '{{ template "x" }}',
        '{{ block "x" . }}{{ end }}',
        "{{ $x := .Host }}",
        "{{ .Host.Name }}",
        "{{ call .Host }}",
        "{{ js .Host }}",
        "{{ index . `Host` }}",
        "{{ .Host | .Host }}",
        "{{ .Host .Host }}",
        "{{ (.Host }}",
        "{{ .Host ) }}",
        "{{ | .Host }}",
        "{{ .Host | }}",
        "{{ and }}",
        "{{ 'x' }}",
        '{{ "\\q" }}',
        "{{ nil }}",
        "{{ 1.5 }}",
        "{{ break }}",
        "{{ if .Host }}" * 60 + "{{ end }}" * 60,
        "{{ if .Host }}" + "{{ else if .Host }}" * 60 + "{{ end }}",
        "{{ " + "(" * 60 + ".Host" + ")" * 60 + " }}",
    ],
)
def test_a_template_that_is_not_understood(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ len 1 }}",
        "{{ eq .Host }}",
        "{{ eq .Host 1 }}",
        "{{ lt .Host 1 }}",
        "{{ lt true false }}",
        "{{ not }}",
        "{{ not 1 2 }}",
        "{{ printf }}",
        "{{ printf 1 }}",
        '{{ printf "%x" 1 }}',
        "{{ with .Host }}{{ .Host }}{{ end }}",
    ],
)
def test_values_that_do_not_go_together(text: str) -> None:
    template = Template(text)
    with pytest.raises(TemplateError):
        template.render(DATA)
