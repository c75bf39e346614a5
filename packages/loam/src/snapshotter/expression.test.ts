import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { parseExpression } from './expression.ts'

const find = (expression: string, text: string) => parseExpression(expression)?.(text)

test('an expression has the meaning that RE2 defines', () => {
  const examples: readonly (readonly [
    expression: string,
    matching: readonly string[],
    others: readonly string[],
  ])[] = [
    ['', ['', 'a'], []],
    ['b', ['abc'], ['ac']],
    ['^a.c$', ['abc', 'a大c'], ['a\nc', 'xabc', 'abcx', 'abc\n']],
    ['(?s)^a.c$', ['a\nc'], []],
    ['(?m)^b$', ['a\nb\nc'], ['ab']],
    ['(?i)ÄB(?-i)c', ['äbc'], ['äbC']],
    ['a(?i)b|c', ['aB', 'C'], ['Ab']],
    ['(?i:x)y', ['Xy'], ['XY']],
    ['^(a|bc)*d$', ['d', 'abcad'], ['abd']],
    ['^(?P<name>a)+?(?<other>b)??$', ['a', 'aab'], ['b']],
    ['^a{2,3}$', ['aa', 'aaa'], ['a', 'aaaa']],
    ['^a{2}b{1,}c{0}$', ['aabb'], ['aab c', 'aa']],
    ['a{,2}', ['a{,2}'], ['aa']],
    ['^[a-c]+[^x-z][]x^-]$', ['abcd]', 'a--'], ['ax]', 'd]']],
    ['^[[:alpha:][:^digit:]_]+$', ['ab_'], ['1']],
    ['^[\\d\\-\\x41\\x{42}]+\\101\\t$', ['1-ABA\t'], ['C']],
    ['^\\w\\W\\s\\S\\D$', ['a- b-'], ['aa bc']],
    ['^\\pL\\p{Greek}\\P{Lu}\\PN\\p{^Lu}$', ['aαaaa'], ['aaaaa', 'aαAaa', 'aαa1a']],
    ['\\bfoo\\b', ['a foo b', 'foo'], ['afoo']],
    ['o\\B', ['foo'], ['o']],
    ['\\Aa\\z', ['a'], ['ba']],
    ['^\\Qa.b*\\E+$', ['a.b*', 'a.b***'], ['axb*']],
    ['^(|a)+$', ['', 'aa'], ['b']],
    ['^(a*)*$', ['', 'aaa'], ['b']],
    ['^(?:(?:a?){3}){2}$', ['', 'aaaaaa'], ['aaaaaaa']],
    ['^😀{2}$', ['😀😀'], ['😀']],
    ['x|^$', ['', 'ax'], ['a']],
  ]
  for (const [expression, matching, others] of examples) {
    for (const text of matching) assert.equal(find(expression, text), true, `${expression} and ${text}`)
    for (const text of others) assert.equal(find(expression, text), false, `${expression} and ${text}`)
  }
})

test('an expression that RE2 does not have matches nothing', () => {
  for (const text of [
    ...[
      '(',
      ')',
      'a)',
      '[',
      '[]',
      '[b-a]',
      '*',
      'a**',
      '+',
      'a{3,2}',
      'a{1001}',
      '(?x)',
      '(?=a)',
      '(?!a)',
      '(?<=a)b',
    ],
    ...['(a)\\1', '\\', '\\k', '\\x{110000}', '\\p{Nothing}', '[[:nothing:]]', '(?P<a', '(?P=a)'],
    ...['(a{1000}){1000}', 'a'.repeat(1001)],
  ])
    assert.equal(parseExpression(text), undefined, text)
})

test('an expression matches the same texts as in JavaScript, for the syntax that both have', () => {
  const leaf = fc.constantFrom('a', 'b', '.', '[ab]', '[^a]', '^', '$', '\\b', '\\w', 'ab', '')
  const { tree } = fc.letrec<{ tree: string }>((tie) => ({
    tree: fc.oneof(
      { depthSize: 'small' },
      leaf,
      fc.tuple(tie('tree'), tie('tree')).map(([a, b]) => `${a}${b}`),
      fc.tuple(tie('tree'), tie('tree')).map(([a, b]) => `(?:${a}|${b})`),
      fc
        .tuple(tie('tree'), fc.constantFrom('*', '+', '?', '{2}', '{0,2}', '*?'))
        .map(([a, b]) => `(?:${a})${b}`),
    ),
  }))
  fc.assert(
    fc.property(
      tree,
      fc.string({ unit: fc.constantFrom('a', 'b', 'c', '\n', ' '), maxLength: 8 }),
      (expression, text) => {
        assert.equal(find(expression, text), new RegExp(expression, 'v').test(text))
      },
    ),
    { numRuns: 2000 },
  )
})

test('an expression that would take JavaScript years is matched at once', () => {
  const text = 'a'.repeat(4000)
  const start = performance.now()
  for (const expression of [
    '^(a+)+$',
    '^(a|a)*$',
    '(a*)*b',
    '^(a|aa)+$',
    `^${'a?'.repeat(300)}${'a'.repeat(300)}b`,
    '(.*.*.*.*)*x',
  ])
    assert.equal(find(expression, `${text}!`), false, expression)
  assert.ok(performance.now() - start < 60_000)
})
