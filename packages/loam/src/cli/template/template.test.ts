import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createTemplate, withKnownFields } from './index.ts'

const IMAGE = {
  ID: 'abc',
  Names: ['a:1', 'b:2'],
  Config: { Env: ['PATH=/bin', 'A=1'], Labels: { z: '1', y: '2' }, Cmd: null },
  size: 7,
}

const made = (template: string, value: unknown = IMAGE) => createTemplate(template)(value)

describe('a template of --format', () => {
  test('reads fields, also of fields, and prints values as Go does', () => {
    assert.equal(made('{{.ID}} {{ .Config.Env }}'), 'abc [PATH=/bin A=1]')
    assert.equal(
      made('{{.Config.Labels}} {{.Config.Cmd}} {{.Missing}}'),
      'map[y:2 z:1] <no value> <no value>',
    )
    assert.equal(made('{{.Size}}'), '7')
  })

  test('calls functions, alone and in pipes', () => {
    for (const [template, text] of [
      ['{{json .Config.Env}}', '["PATH=/bin","A=1"]'],
      ['{{.Names | json}}', '["a:1","b:2"]'],
      ['{{join .Names ", "}}', 'a:1, b:2'],
      ['{{join .Nothing ", "}}{{.Nothing | join ", "}}', ''],
      ['{{.ID | upper | printf "%-5s|"}}', 'ABC  |'],
      ['{{printf "%s %d %05d %q" .ID .size .size "x"}}', 'abc 7 00007 "x"'],
      ['{{index .Config.Labels "y"}}{{index .Names 1}}', '2b:2'],
      ['{{len .Names}}{{len .ID}}', '23'],
      ['{{(index .Names 0) | upper}} {{(slice .Names 1)}}', 'A:1 [b:2]'],
      ['{{truncate .ID 2}}{{lower "X"}}{{title "ab c"}}', 'abxAb C'],
      ['{{split "a,b" ","}}', '[a b]'],
    ] as const)
      assert.equal(made(template), text, template)
  })

  test('has conditions, loops and variables', () => {
    for (const [template, text] of [
      ['{{range .Names}}{{.}};{{end}}', 'a:1;b:2;'],
      ['{{range $i, $n := .Names}}{{$i}}={{$n}} {{end}}', '0=a:1 1=b:2 '],
      ['{{range $k, $v := .Config.Labels}}{{$k}}{{$v}}{{end}}', 'y2z1'],
      ['{{range .None}}x{{else}}none{{end}}', 'none'],
      ['{{if eq .ID "x"}}1{{else if .Config}}2{{else}}3{{end}}', '2'],
      ['{{if and .ID (not .None)}}yes{{end}}', 'yes'],
      ['{{with .Config}}{{index .Env 1}} {{$.ID}}{{end}}', 'A=1 abc'],
      ['{{$x := .ID}}{{$x}}{{/* a comment */}}', 'abc'],
      ['a {{- .ID -}} b', 'aabcb'],
      ['{{"}}"}}{{`\\`}}', '}}\\'],
    ] as const)
      assert.equal(made(template), text, template)
  })

  test('and and or give the first value that decides, also one that is missing', () => {
    for (const [template, text] of [
      ['{{if and .Config.Missing .ID}}yes{{else}}no{{end}}', 'no'],
      ['{{if and .Config.Cmd .ID}}yes{{else}}no{{end}}', 'no'],
      [
        '{{and .Missing .ID}} {{and .ID .size}} {{or .Missing .ID}} {{or .None .Missing}}',
        '<no value> 7 abc <no value>',
      ],
    ] as const)
      assert.equal(made(template), text, template)
  })

  test('numbers are compared as numbers, also those in texts, and nothing with what is not comparable', () => {
    const row = { Layers: '2', size: 7, Name: 'b', Cmd: null, isOn: true }
    for (const [template, text] of [
      [
        '{{lt .Layers 10}} {{gt .Layers 10}} {{le 10 .Layers}} {{ge .size 7}} {{lt .size .Layers}}',
        'true false false true false',
      ],
      ['{{lt .Name "c"}} {{lt .Layers "10"}}', 'true false'],
    ] as const)
      assert.equal(made(template, row), text, template)
    for (const template of ['{{lt .Name 10}}', '{{lt .Missing 10}}', '{{gt .Cmd "x"}}', '{{lt .isOn .isOn}}'])
      assert.throws(() => made(template, row), { code: 'USAGE', message: /number/ }, template)
  })

  test('printf pads and signs as in Go, and refuses unknown verbs, wrong types and a wrong number of values', () => {
    assert.equal(
      made('{{printf "%+v|%+d|% d|%-4d|%05d|%6.2f|%%|%t" "a" 7 7 7 -7 1.005 true}}'),
      'a|+7| 7|7   |-0007|  1.00|%|true',
    )
    for (const call of [
      '"%x" .size',
      '"%#v" .ID',
      '"%" 1',
      '"%d" .ID',
      '"%t" 1',
      '"%s"',
      '"%s" 1 2',
      '"%f" .Missing',
    ])
      assert.throws(() => made(`{{printf ${call}}}`), { code: 'USAGE' }, call)
    for (const call of ['truncate .ID "x"', 'slice .ID "x"', 'pad .ID "x" 1', 'join .ID ","'])
      assert.throws(() => made(`{{${call}}}`), { code: 'USAGE' }, call)
  })

  test('an invalid one is refused with the place or the words that there are', () => {
    for (const [template, message] of [
      ['{{.ID', /not closed/],
      ['{{end}}', /without/],
      ['{{if .ID}}x', /no {{end}}/],
      ['{{nosuch .}}', /no function nosuch; there are json/],
      ['{{.ID "x"}}', /only a function/],
      ['{{$y}}', /no variable/],
      ['{{(.ID}}', /parenthesis/],
      ['{{}}', /empty/],
      ['{{ % }}', /unexpected/],
      ['{{.ID.Deep}}', /no field Deep/],
      ['{{if .}}'.repeat(60), /nested/],
    ] as const)
      assert.throws(() => made(template), { code: 'USAGE', message }, template)
    const known = withKnownFields({ ID: 1 })
    assert.throws(() => made('{{.Nosuch}}', known), { message: /there is no field Nosuch; there are ID/ })
  })

  test('one that does too much work is refused', () => {
    const list = '{{$x := split (pad "" 3000 0) ""}}'
    const long = (times: number) => `{{$x := "a "}}${'{{$x = print $x $x}}'.repeat(times)}`
    const labels = Object.fromEntries(Array.from({ length: 20_000 }, (_label, index) => [`k${index}`, '']))
    for (const template of [
      `${list}{{range $x}}{{range $x}}{{range $x}}{{end}}{{end}}{{end}}`,
      `${list}{{range $x}}{{range $x}}{{.}}{{end}}{{end}}`,
      long(31),
      `${long(20)}{{len (split $x "")}}`,
      `${long(20)}{{title $x}}`,
      `${long(14)}{{join (split $x "") $x}}`,
      `{{printf "${'%9999d'.repeat(5000)}" ${'1 '.repeat(5000)}}}`,
      ...[
        '$.labels.none',
        'index $.labels "none"',
        'len $.labels',
        'not $.labels',
        'eq $.labels 1',
        'slice $.labels 0 1',
        'json $.labels | len',
        '$y := $.labels | printf "%.1s"',
        'range $.labels}}{{end',
        'if $.labels}}{{end',
        'with $.labels}}{{end',
      ].map((action) => `${list}{{range $x}}{{${action}}}{{end}}`),
    ])
      assert.throws(() => made(template, { labels }), { code: 'USAGE', message: /too long/ }, template)
    // Many tokens are no work for long.
    assert.equal(made(`{{print ${'(1)'.repeat(20_000)}}}`).length, 20_000)
  })

  test('one for a large value is within the work that it may do, each time', () => {
    const value = {
      text: 'x'.repeat(4 << 20),
      layers: Array.from({ length: 1000 }, (_layer, index) => ({
        digest: `sha256:${'0'.repeat(64)}`,
        index,
      })),
      labels: Object.fromEntries(
        Array.from({ length: 1000 }, (_label, index) => [`k${index}`, 'x'.repeat(100)]),
      ),
    }
    const template = createTemplate(
      '{{json .text}}{{range $i, $l := .layers}}{{$i}} {{$l.digest | upper}} {{(index $.layers $i).index}}{{end}}' +
        '{{range $k, $v := .labels}}{{printf "%-20s=%q" $k (index $.labels $k)}}{{end}}{{len .layers}}',
    )
    for (let times = 0; times < 3; times += 1) assert.ok(template(value).length > 4 << 20)
    assert.equal(JSON.parse(made('{{json .}}', value)).text, value.text)
  })

  test('all results of one are bounded', () => {
    const template = createTemplate('{{.}}')
    const text = 'x'.repeat(8 << 20)
    for (let times = 0; times < 8; times += 1) template(text)
    assert.throws(() => template(text), { code: 'USAGE', message: /longer than/ })
  })
})
