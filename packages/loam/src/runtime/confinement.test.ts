import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import {
  capabilitiesOf,
  checkHostname,
  checkWords,
  type ConfinementOptions,
  type HostRights,
  parseSeccompProfile,
  planConfinement,
  type SeccompProfile,
} from './index.ts'
import { createRuntimeConfig } from './runtime-config.ts'

const EVERY_CAPABILITY = capabilitiesOf((1n << 41n) - 1n)
const ROOT: HostRights = {
  architecture: 'amd64',
  kernel: '6.12.1-cloud',
  capabilities: EVERY_CAPABILITY,
  uid: 0,
  gid: 0,
  limits: ['pids', 'memory', 'cpu'],
}
const USER: HostRights = { ...ROOT, uid: 1000, gid: 1001, limits: [] }
const noProfile = (path: string): SeccompProfile => assert.fail(path)
const plan = (options: ConfinementOptions, host = ROOT) => planConfinement(options, host, noProfile)
const isUsage = (error: unknown) => isLoamError(error, 'USAGE')

/** Names of the system calls that a filter allows whatever their arguments are. */
function allowedCalls(options: ConfinementOptions, host = ROOT): Set<string> {
  const { seccomp } = plan(options, host)
  const rules = (seccomp?.syscalls ?? []) as { names: string[]; action: string; args?: unknown }[]
  return new Set(
    rules
      .filter((rule) => rule.action === 'SCMP_ACT_ALLOW' && rule.args === undefined)
      .flatMap(({ names }) => names),
  )
}

function configOf(options: ConfinementOptions, { host = ROOT, uid = 0 } = {}) {
  const config = createRuntimeConfig({
    rootfsPath: '/r',
    isReadOnly: false,
    args: ['x'],
    env: [],
    cwd: '/',
    user: { uid, gid: uid, additionalGids: [], home: '/' },
    terminal: false,
    terminalSize: undefined,
    hostname: 'h',
    mounts: [],
    confinement: plan(options, host),
    idMapping: undefined,
    annotations: {},
    cgroup: 'loam-1',
  })
  return config as {
    process: Record<string, unknown> & { capabilities: Record<string, string[]> }
    linux: Record<string, unknown> & { namespaces: { type: string; path?: string }[]; resources: object }
    mounts: { destination: string; type: string; options: string[] }[]
  }
}

describe('a container', () => {
  test('a container has namespaces, limits and rights of its own unless the request says otherwise', () => {
    const { process, linux } = configOf({})
    assert.deepEqual(
      linux.namespaces.map(({ type }) => type),
      ['pid', 'ipc', 'uts', 'mount', 'cgroup', 'network'],
    )
    assert.deepEqual(linux.resources, {
      devices: [{ allow: false, access: 'rwm' }],
      pids: { limit: 2048 },
    })
    assert.equal(linux['cgroupsPath'], 'loam-1')
    assert.equal(process['noNewPrivileges'], true)
    assert.equal(process['oomScoreAdj'], 0)
    const { bounding, effective, ambient, inheritable } = process.capabilities
    assert.equal(bounding?.length, 11)
    assert.deepEqual([effective, ambient, inheritable], [bounding, [], []])
  })

  test('a limit of memory is also one of swap, where the kernel counts swap', () => {
    const memoryOf = (limits: HostRights['limits']) => {
      const { resources } = configOf({ memoryBytes: 64 << 20 }, { host: { ...ROOT, limits } }).linux
      return 'memory' in resources ? resources.memory : undefined
    }
    assert.deepEqual(memoryOf(['memory', 'swap']), { limit: 64 << 20, swap: 128 << 20 })
    assert.deepEqual(memoryOf(['memory']), { limit: 64 << 20 })
  })

  test('a container with a user other than root has the rights that the kernel gives such a user', () => {
    const { process, linux, mounts } = configOf({}, { host: USER })
    assert.deepEqual(linux.namespaces.at(-1), { type: 'user' })
    assert.deepEqual(linux['uidMappings'], [{ containerID: 0, hostID: 1000, size: 1 }])
    assert.deepEqual(linux['gidMappings'], [{ containerID: 0, hostID: 1001, size: 1 }])
    assert.deepEqual(linux.resources, { devices: [{ allow: false, access: 'rwm' }] })
    assert.equal('cgroupsPath' in linux, false)
    assert.deepEqual(process['rlimits'], [{ type: 'RLIMIT_NPROC', hard: 2048, soft: 2048 }])
    assert.equal('oomScoreAdj' in process, false)
    assert.deepEqual(process['user'], { uid: 0, gid: 0 })
    assert.equal(
      mounts.find(({ destination }) => destination === '/dev/pts')?.options.includes('gid=5'),
      false,
    )
    assert.match(plan({}, USER).notes[0] ?? '', /RLIMIT_NPROC enforces the limit of 2048 processes/)
    // The file system of another network's devices cannot be mounted.
    const ofHost = configOf({ network: 'host' }, { host: USER }).mounts
    assert.equal(ofHost.find(({ destination }) => destination === '/sys')?.type, 'bind')
  })

  test('a container is in the requested network, and a network that Loam cannot create is refused', () => {
    const networks = (network: string) =>
      configOf({ network }).linux.namespaces.filter(({ type }) => type === 'network')
    assert.deepEqual(networks('none'), [{ type: 'network' }])
    assert.deepEqual(networks('host'), [])
    assert.deepEqual(networks('ns:/run/netns/x'), [{ type: 'network', path: '/run/netns/x' }])
    for (const network of [
      '',
      'bridge',
      'private',
      'pasta:x',
      'container:c',
      'ns:',
      'ns:x',
      'ns:/a\0',
      'Host',
    ])
      assert.throws(() => plan({ network }), isUsage, network)
  })

  test('the number of processes of a container is limited by a cgroup or its user, or a note says that it is not', () => {
    const limit = (pidsLimit: number | undefined, host = ROOT) => plan({ pidsLimit }, host).pidsLimit
    assert.deepEqual(limit(undefined), { by: 'group', count: 2048 })
    assert.deepEqual(limit(5), { by: 'group', count: 5 })
    assert.deepEqual(limit(5, USER), { by: 'user', count: 5 })
    for (const none of [0, -1]) assert.equal(limit(none), undefined)
    for (const wrong of [-2, 1.5, Number.NaN, 2 ** 23]) assert.throws(() => limit(wrong), isUsage, `${wrong}`)
    // The kernel never applies a limit of users to root.
    const alone = { ...ROOT, limits: [] }
    assert.equal(limit(undefined, alone), undefined)
    assert.match(plan({}, alone).notes[0] ?? '', /the number of processes is not limited/)
    assert.throws(() => limit(5, alone), isUsage)
  })
})

describe('a process', () => {
  test('a process gets no argument that the kernel refuses, which a runtime would report as a status of its own', () => {
    const longest = 'x'.repeat(131_071)
    checkWords(['sh', longest], ['A=b'])
    for (const [args, env, message] of [
      [['sh', `${longest}x`], [], /argument 1 has 131072 bytes/],
      [['sh'], [`A=${longest}`], /variable A has 131073 bytes/],
      [['sh'], [`A=${'ü'.repeat(65_535)}`], /variable A has 131072 bytes/],
      [['a\0b'], [], /argument 0 has a NUL/],
    ] as const)
      assert.throws(
        () => checkWords(args, env),
        (error) => isLoamError(error, 'COMMAND_NOT_EXECUTABLE') && message.test(error.message),
      )
  })

  test('a host name that cannot be a host name is refused', () => {
    for (const name of ['h', 'web-1.example', 'a'.repeat(63)]) assert.equal(checkHostname(name), name)
    for (const name of ['', 'a b', 'h\n1.2.3.4 registry', '-x', 'a'.repeat(64), '\u202e'])
      assert.throws(() => checkHostname(name), isUsage, JSON.stringify(name))
  })
})

describe('capabilities', () => {
  const bounding = (capAdd: string[], capDrop: string[], host = ROOT) =>
    plan({ capAdd, capDrop }, host).capabilities.bounding

  test('capabilities are added and dropped as podman does it', () => {
    const byDefault = bounding([], [])
    assert.deepEqual(bounding(['net_raw', 'CAP_NET_RAW'], []), [...byDefault, 'CAP_NET_RAW'])
    assert.deepEqual(
      bounding([], ['Cap_Chown', 'MKNOD']),
      byDefault.filter((name) => name !== 'CAP_CHOWN'),
    )
    assert.deepEqual(bounding(['kill'], ['all']), ['CAP_KILL'])
    assert.deepEqual(bounding([], ['ALL']), [])
    assert.deepEqual(
      bounding(['all'], ['sys_admin']),
      EVERY_CAPABILITY.filter((name) => name !== 'CAP_SYS_ADMIN'),
    )
    for (const [add, drop] of [
      [['nope'], []],
      [[''], []],
      [[], ['CAP_']],
      [['kill'], ['CAP_KILL']],
      [['ALL'], ['all']],
    ] as [string[], string[]][])
      assert.throws(() => bounding(add, drop), isUsage, JSON.stringify([add, drop]))
  })

  test('capabilities that this process lacks are left out of the default ones, and refused if they are requested', () => {
    const host = { ...ROOT, capabilities: ['CAP_CHOWN', 'CAP_KILL'] }
    assert.deepEqual(bounding([], [], host), ['CAP_CHOWN', 'CAP_KILL'])
    assert.deepEqual(bounding(['ALL'], [], host), ['CAP_CHOWN', 'CAP_KILL'])
    assert.throws(() => bounding(['NET_RAW'], [], host), isUsage)
    assert.deepEqual(capabilitiesOf(0x800405fbn & 0b11n), ['CAP_CHOWN', 'CAP_DAC_OVERRIDE'])
  })

  test('a user other than root has the capabilities that are requested by name, and no others', () => {
    const { capabilities } = configOf({ capAdd: ['NET_RAW'] }, { uid: 7 }).process
    const own = ['CAP_NET_RAW']
    const { effective, permitted, inheritable, ambient } = capabilities
    assert.deepEqual([effective, permitted, inheritable, ambient], [own, own, own, own])
    assert.deepEqual(configOf({}, { uid: 7 }).process.capabilities['permitted'], [])
  })
})

describe('security options', () => {
  test('security options have the syntax of docker and podman, the last one wins, and unknown ones are refused', () => {
    const options = (...securityOpts: readonly string[]) => plan({ securityOpts })
    assert.equal(options('seccomp=unconfined').seccomp, undefined)
    assert.equal(options('seccomp:unconfined').seccomp, undefined)
    for (const [text, expected] of [
      ['no-new-privileges', true],
      ['no-new-privileges=true', true],
      ['no-new-privileges:false', false],
    ] as const)
      assert.equal(options('no-new-privileges=false', text).noNewPrivileges, expected, text)
    for (const text of [
      '',
      'seccomp',
      'seccomp=',
      'no-new-privileges=no',
      'apparmor=x',
      'label=disable',
      'mask=/x',
    ])
      assert.throws(() => options(text), isUsage, text)
    const profile: SeccompProfile = { defaultAction: 'SCMP_ACT_ALLOW' }
    const { seccomp } = planConfinement({ securityOpts: ['seccomp=/p'] }, ROOT, (path) => {
      assert.equal(path, '/p')
      return profile
    })
    assert.deepEqual(seccomp, { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [] })
  })
})

describe('the default filter of system calls', () => {
  /** Calls newer than podman's profile on Debian 12, or added to it late; each is equivalent to an allowed one. */
  const NEWER =
    'cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat io_pgetevents io_pgetevents_time64 listmount listxattrat map_shadow_stack mseal removexattrat setxattrat statmount uretprobe'
  const PODMAN_PROFILE = '/usr/share/containers/seccomp.json'

  test("the default seccomp filter allows nothing that podman's refuses, but for newer calls", {
    skip: !existsSync(PODMAN_PROFILE),
  }, () => {
    const podman = parseSeccompProfile(readFileSync(PODMAN_PROFILE), PODMAN_PROFILE)
    for (const architecture of ['amd64', 'arm64', 's390x']) {
      const host = { ...ROOT, architecture }
      const { seccomp } = planConfinement({ securityOpts: ['seccomp=x'] }, host, () => podman)
      const rules = seccomp?.syscalls as { names: string[]; action: string }[]
      const theirs = new Set(
        rules.filter(({ action }) => action === 'SCMP_ACT_ALLOW').flatMap(({ names }) => names),
      )
      const own = [...allowedCalls({}, host)].filter((name) => !theirs.has(name))
      assert.deepEqual(own.toSorted(), NEWER.split(' '), architecture)
    }
  })

  test('the default seccomp filter refuses namespaces, mounts, keys, BPF and calls that bypass a filter', () => {
    const allowed = allowedCalls({})
    for (const name of [
      ...[
        'unshare',
        'setns',
        'mount',
        'move_mount',
        'fsopen',
        'open_tree',
        'umount2',
        'pivot_root',
        'clone',
        'clone3',
      ],
      ...[
        'keyctl',
        'add_key',
        'request_key',
        'bpf',
        'perf_event_open',
        'userfaultfd',
        'kexec_load',
        'init_module',
      ],
      ...[
        'io_uring_setup',
        'io_uring_enter',
        'open_by_handle_at',
        'process_vm_writev',
        'pidfd_getfd',
        'reboot',
      ],
      ...[
        'vmsplice',
        'syslog',
        'socket',
        'personality',
        'swapon',
        'acct',
        'quotactl',
        'iopl',
        'settimeofday',
      ],
    ])
      assert.equal(allowed.has(name), false, name)
  })

  test('the default seccomp filter refuses socket families by the part of their number that the kernel uses', () => {
    const rules = plan({}).seccomp?.syscalls.filter(({ names }) => (names as string[]).includes('socket'))
    const conditions = (rules ?? []).flatMap(({ args }) => args as Record<string, unknown>[])
    assert.deepEqual(
      new Set(conditions.map(({ index, op }) => `${String(index)} ${String(op)}`)),
      new Set(['0 SCMP_CMP_MASKED_EQ']),
    )
    const isAllowed = (family: bigint) =>
      conditions.some(({ value, valueTwo }) => (family & BigInt(Number(value))) === BigInt(Number(valueTwo)))
    // AF_MAX of linux/socket.h is 46.
    for (let family = 0n; family < 46n; family += 1n)
      for (const upper of [0n, 1n << 32n, 0xffff_ffffn << 32n])
        assert.equal(isAllowed(upper | family), family !== 38n && family !== 40n, `${upper | family}`)
  })

  test('the default seccomp filter allows the calls of an added capability, and refuses those of a dropped one', () => {
    const admin = allowedCalls({ capAdd: ['SYS_ADMIN'] })
    for (const name of ['unshare', 'mount', 'clone', 'clone3', 'setns']) assert.ok(admin.has(name), name)
    assert.equal(allowedCalls({ capAdd: ['BPF'] }).has('bpf'), true)
    assert.equal(allowedCalls({}).has('chroot'), true)
    assert.equal(allowedCalls({ capDrop: ['ALL'] }).has('chroot'), false)
  })

  test("the default seccomp filter is for the machine's architecture and its compatible ones", () => {
    assert.deepEqual(plan({}).seccomp?.architectures, ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'])
    const arm = { ...ROOT, architecture: 'arm64' }
    assert.deepEqual(plan({}, arm).seccomp?.architectures, ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'])
    assert.deepEqual(
      [allowedCalls({}).has('arch_prctl'), allowedCalls({}, arm).has('arch_prctl')],
      [true, false],
    )
    assert.equal(plan({}, { ...ROOT, architecture: 'ppc64le' }).seccomp?.architectures, undefined)
  })
})

describe('a seccomp profile', () => {
  const parse = (profile: object) => parseSeccompProfile(Buffer.from(JSON.stringify(profile)), 'p')
  const ALLOW = { names: ['read'], action: 'SCMP_ACT_ALLOW' }

  test('a seccomp profile has rules for kernels, architectures and capabilities, and those that apply are the filter', () => {
    const rules = [
      { ...ALLOW, includes: { minKernel: '6.12' } },
      { ...ALLOW, includes: { minKernel: '6.13' } },
      { ...ALLOW, excludes: { minKernel: '6.9' } },
      { ...ALLOW, includes: { arches: ['x86'] } },
      { ...ALLOW, includes: { arches: ['amd64', 'x32'] }, comment: 'c' },
      { ...ALLOW, excludes: { arches: ['amd64'] } },
      { ...ALLOW, includes: { caps: ['CAP_CHOWN', 'CAP_SYS_ADMIN'] } },
      { ...ALLOW, excludes: { caps: ['CAP_SYS_ADMIN', 'CAP_BPF'] } },
    ]
    const profile = parse({
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 1,
      syscalls: rules.map((rule, index) => ({ ...rule, names: [`call${index}`] })),
    })
    const { seccomp } = planConfinement({ securityOpts: ['seccomp=p'] }, ROOT, () => profile)
    assert.deepEqual(
      seccomp?.syscalls.map(({ names }) => names),
      [['call0'], ['call4'], ['call7']],
    )
    assert.equal(seccomp?.defaultErrnoRet, 1)
  })

  test('a seccomp profile with fields that Loam would not pass on is refused', () => {
    assert.equal(
      parse({ defaultAction: 'SCMP_ACT_LOG', syscalls: null, archMap: [] }).defaultAction,
      'SCMP_ACT_LOG',
    )
    for (const wrong of [
      {},
      { defaultAction: 'ALLOW' },
      { defaultAction: 'SCMP_ACT_NOTIFY' },
      { defaultAction: 'SCMP_ACT_ALLOW', listenerPath: '/x' },
      { defaultAction: 'SCMP_ACT_ALLOW', architectures: ['a'], archMap: [{ architecture: 'b' }] },
      ...[
        { ...ALLOW, names: [] },
        { ...ALLOW, name: 'write' },
        { action: 'SCMP_ACT_ALLOW' },
        { ...ALLOW, errno: 'EPERM' },
        { ...ALLOW, includes: { minKernel: 'six' } },
        { ...ALLOW, includes: { kernels: [] } },
        { ...ALLOW, args: [{ index: 6, value: 0, op: 'SCMP_CMP_EQ' }] },
        { ...ALLOW, args: [{ index: 0, value: 0, op: '=' }] },
      ].map((rule) => ({ defaultAction: 'SCMP_ACT_ERRNO', syscalls: [rule] })),
    ])
      assert.throws(() => parse(wrong), isUsage, JSON.stringify(wrong))
  })
})
