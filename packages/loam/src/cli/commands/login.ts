import { type Command, Option } from 'commander'
import { readConfiguration } from '../../config/index.ts'
import { cancelable, isLoamError, LoamError, withHint } from '../../errors/index.ts'
import { findUser, logIn, type LoginContext } from '../../images/index.ts'
import { type Login, type LoginTarget, parseLoginTarget } from '../../registry/index.ts'
import { addFetchOptions, type FetchFlags, toFetchOptions } from '../image-options.ts'
import type { Output } from '../output.ts'
import { addGlobalOptions, configurationInput, type GlobalOptions, outputOf } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends FetchFlags, GlobalOptions {
  readonly username?: string
  readonly password?: string
  readonly passwordStdin?: boolean
  readonly getLogin?: boolean
}

const MAX_PASSWORD_BYTES = 64 << 10
const DOCKER_HUB = 'docker.io'

export function addLogin(program: Command, host: Host): void {
  addFetchOptions(addGlobalOptions(program.command('login [registry]')))
    .description('verify a user and password at a registry, and store them for loam, docker and podman')
    .option('-u, --username <name>', 'user (default: asked for)')
    .option(
      '-p, --password <password>',
      'password; other users of this machine may see it: use --password-stdin',
    )
    .addOption(new Option('--password-stdin', 'read the password from standard input').conflicts('password'))
    .option('--get-login', 'print the user that is logged in, and do nothing else')
    .addHelpText(
      'after',
      `
The login goes to the file that already has one for the registry, else to the first of podman's and docker's files that
exists, else to ~/.docker/config.json; a credential helper that the file names gets the password. REGISTRY is Docker Hub
if left out.
  loam login ghcr.io
  echo "$TOKEN" | loam login -u me --password-stdin registry.lan:5000
  loam login --authfile ./auth.json quay.io/team       only for the repositories of one organisation`,
    )
    .action(async (registry: string | undefined, flags: Flags) => {
      // The password is the caller's, and so are the files.
      host.requireOwnProcess()
      const output = outputOf(host, flags)
      await withLogin(host, flags, async (context) => {
        const target = parseLoginTarget(registry ?? DOCKER_HUB)
        if (flags.getLogin === true) await printUser(context, target, output)
        else await login({ host, output, context, flags }, target)
      })
    })
}

/** Reads the settings, and watches the signals. No store is opened: a login needs none. */
export async function withLogin(
  host: Host,
  flags: FetchFlags & GlobalOptions,
  act: (context: LoginContext) => Promise<void>,
): Promise<void> {
  const { values } = readConfiguration(configurationInput(host, flags))
  const { env, cwd, userId } = host
  const { signal, release } = host.watchSignals()
  try {
    await cancelable(signal, 'run the command', async () =>
      act({ values, caller: { env, cwd, userId }, options: { ...toFetchOptions(flags), signal } }),
    )
  } finally {
    release()
  }
}

async function printUser(context: LoginContext, target: LoginTarget, output: Output): Promise<void> {
  const user = await findUser(context, target)
  if (user === undefined)
    throw new LoamError('CREDENTIALS_INVALID', `find the login to ${target.registry}: not logged in`, {
      hint: `Log in: loam login ${target.registry}`,
    })
  output.result({ registry: target.registry, username: user.username }, () => user.username)
}

interface LoginCall {
  readonly host: Host
  readonly output: Output
  readonly context: LoginContext
  readonly flags: Flags
}

async function login(call: LoginCall, target: LoginTarget): Promise<void> {
  const { output, flags } = call
  const { given, verified } = await verify(call, target)
  const { file, helper, isVerified } = verified
  if (!isVerified)
    output.difference(`${target.registry} does not ask for a login: the password was not verified`)
  if (helper === undefined)
    output.note(`the password is in ${file}, unencrypted; a credential helper (credsStore) would protect it`)
  if (flags.password !== undefined)
    output.warn('--password shows the password to other users: use --password-stdin')
  const result = { registry: target.registry, username: given.username, file, helper, isVerified }
  output.result(result, () => 'Login Succeeded')
}

/** Logs in with a login that is stored or given; asks for another one at a terminal if the registry refuses the stored one, which may have expired. */
async function verify(
  call: LoginCall,
  target: LoginTarget,
): Promise<{ readonly given: Login; readonly verified: Awaited<ReturnType<typeof logIn>> }> {
  const { host, output, context, flags } = call
  const known =
    flags.username === undefined && flags.password === undefined && flags.passwordStdin !== true
      ? await findUser(context, target)
      : undefined
  if (known !== undefined) {
    output.note(`using the stored login of ${known.username}`)
    try {
      return { given: known, verified: await logIn(context, target, known) }
    } catch (error) {
      if (!isRefusal(error) || !host.stdin.isTerminal) throw refused(error, target, known, true)
      output.note(`${target.registry} refused it: log in again`)
    }
  }
  const given = await readLogin(call, target, known?.username)
  const verified = await logIn(context, target, given).catch((error: unknown) => {
    throw refused(error, target, given, false)
  })
  return { given, verified }
}

function isRefusal(error: unknown): error is LoamError {
  return isLoamError(error, 'REGISTRY_UNAUTHORIZED', 'REGISTRY_DENIED')
}

function refused(error: unknown, { registry }: LoginTarget, { username }: Login, isStored: boolean): unknown {
  if (!isRefusal(error)) return error
  const hint = isStored
    ? `${registry} refused the stored login of ${username}. Log in again: echo PASSWORD | loam login --username ${username} --password-stdin ${registry}`
    : `${registry} refused user ${username} with this password. Nothing was stored. Some registries need an access token in place of the password.`
  return withHint(error, hint)
}

/** Returns the user and password: given, or asked for. An empty answer is the user of a former login. @throws USAGE */
async function readLogin(
  { host, flags, context }: LoginCall,
  target: LoginTarget,
  former: string | undefined,
): Promise<Login> {
  const { username, password, passwordStdin = false } = flags
  if (passwordStdin && username === undefined)
    throw new LoamError('USAGE', 'log in: --password-stdin needs --username')
  const { signal = new AbortController().signal } = context.options
  if (username !== undefined && passwordStdin) {
    const text = (await host.readInput(MAX_PASSWORD_BYTES)).replace(/\r?\n$/, '')
    return checked({ username, password: text })
  }
  if (username !== undefined && password !== undefined) return checked({ username, password })
  if (!host.stdin.isTerminal)
    throw new LoamError('USAGE', 'log in: standard input is not a terminal that could be asked', {
      hint: `echo PASSWORD | loam login --username USER --password-stdin ${target.registry}`,
    })
  const question = former === undefined ? 'Username: ' : `Username (${former}): `
  const answer = username ?? (await host.ask(question, signal)).trim()
  const user = answer === '' && username === undefined ? (former ?? '') : answer
  return checked({ username: user, password: password ?? (await host.askSecret('Password: ', signal)) })
}

/** @throws USAGE for a user or password that is empty, or that the format cannot hold */
function checked(given: Login): Login {
  if (given.username === '') throw new LoamError('USAGE', 'log in: the user name is empty')
  if (given.username.includes(':')) throw new LoamError('USAGE', 'log in: a user name has no colon')
  if (given.password === '') throw new LoamError('USAGE', 'log in: the password is empty')
  return given
}
