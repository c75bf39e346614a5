import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as v from 'valibot'
import { CONVERSATIONS, DOWNLOADS, OPERATIONS, UPLOADS } from '../api/index.ts'
import type { ContainerFiles, ContainerProcesses, Containers } from '../containers/index.ts'
import { isLoamError } from '../errors/index.ts'
import type { Images } from '../images/index.ts'
import { OPTION_KINDS, type OptionKind, type OptionsOf } from '../options/index.ts'
import { checkCallOptions } from './call-options.ts'
import type { Snapshots } from './snapshots.ts'
import type { StoreCare } from './store-care.ts'

type Door = Images | Containers | ContainerFiles | ContainerProcesses | Snapshots | StoreCare

const TEXTS = ['', 'x', '/x', 'docker', 'tar', 'oci-archive']
const NUMBERS = [-1, 0, 1, 1.5, 4096, 8.64e15, 8.64e15 + 2, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY]
const OBJECTS = [null, [], [''], ['x'], [1], [null], {}, [{}]]
const VALUES = [...TEXTS, ...NUMBERS, ...OBJECTS, true, false]

/** Fields of requests that are arguments of the library, and no options. */
const ARGUMENTS = words(
  'address capabilities client config directory dockerConfig from hostPath image images indexDigest key name repository signal',
)
/** Options that the library and the API write differently: a path may be relative here, and a platform is an object. */
const OTHERS = words(
  'authFile certsDir commandInfo env excluded hostMounts lazyIndex output platform sandbox terminalSize userNamespace volumes workDir',
)

/** Options whose emptiness the call itself tells, with what there is. */
const TOLD_BY_CALL = words('backend id')

function words(list: string): Set<string> {
  return new Set(list.split(' '))
}

function isTaken(call: string, options: object): boolean {
  try {
    checkCallOptions(call, options)
    return true
  } catch (error) {
    assert.ok(isLoamError(error, 'USAGE'), String(error))
    return false
  }
}

test('each option of a call has a kind, and each kind is of an option', () => {
  // It does not compile for an option without a kind, or a kind without an option.
  const kinds: Readonly<Record<OptionsOf<Door>, OptionKind>> = OPTION_KINDS
  const options: Readonly<Record<keyof typeof OPTION_KINDS, OptionKind>> = kinds
  assert.ok(Object.keys(options).length > 50)
})

test('the library takes the values of options that the API takes, and no others', () => {
  const all = { ...OPERATIONS, ...DOWNLOADS, ...UPLOADS, ...CONVERSATIONS }
  let compared = 0
  for (const [operation, { request }] of Object.entries(all)) {
    const [kind = '', call = ''] = operation.split('.')
    // The snapshotter's own calls have no options, and containerd checks them.
    if (kind === 'snapshots' && !['commitImage', 'diff'].includes(call)) continue
    for (const [field, schema] of Object.entries(request.entries)) {
      if (ARGUMENTS.has(field) || OTHERS.has(field)) continue
      for (const value of VALUES) {
        if (value === '' && TOLD_BY_CALL.has(field)) continue
        // JSON has no such numbers.
        const isJson = typeof value !== 'number' || Number.isFinite(value)
        const isValid = isJson && v.safeParse(schema, value).success
        const name = call === 'download' ? (kind === 'images' ? 'save' : 'export') : call
        assert.equal(
          isTaken(name, { [field]: value }),
          isValid,
          `${operation}: ${field}: ${JSON.stringify(value)}`,
        )
        compared += 1
      }
    }
  }
  assert.ok(compared > 1000)
})

test('options that are written differently have their kinds, too', () => {
  for (const field of OTHERS) {
    assert.equal(isTaken('run', { [field]: 1 }), false, field)
    assert.ok(isTaken('run', { [field]: undefined }), field)
  }
  assert.ok(isTaken('run', { volumes: [{}], platform: {}, authFile: 'x', output: '-' }))
})

test('a name that is no option is refused, with the one that may be meant', () => {
  assert.throws(
    () => {
      checkCallOptions('prune', { exclude: ['debian'] })
    },
    { code: 'USAGE', message: 'call prune: exclude is not an option', hint: 'Did you mean excluded?' },
  )
})

test('what is not options is left alone', () => {
  checkCallOptions('pull', { type: 'docker', docker: { name: 'debian' } })
  assert.equal(isTaken('prune', { dryRun: 'false', oci: 1 }), false)
  for (const value of [
    undefined,
    null,
    'x',
    ['x'],
    new Date(),
    new (class {
      mode = -1
    })(),
  ])
    checkCallOptions('run', value)
})
