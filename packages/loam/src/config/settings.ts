import { DEFAULT_IMAGE_LIMITS, DEFAULT_LAYER_LIMITS } from '../tree/index.ts'
import { type ImageGcConfig, imageGcConfig } from './image-gc-config.ts'
import {
  absolutePath,
  count,
  duration,
  flag,
  folder,
  list,
  listOf,
  oneOf,
  program,
  type SettingType,
  someOf,
  text,
} from './setting-types.ts'

/** One value that can be set. */
interface Setting<T> extends SettingType<T> {
  /** One line for `loam config` and docs/configuration.md. */
  readonly help: string
  readonly defaultValue: T
}

function setting<T>(defaultValue: T, help: string, type: SettingType<T>): Setting<T> {
  return { help, defaultValue, ...type }
}

function optional<T>(help: string, type: SettingType<T>): Setting<T | undefined> {
  return setting<T | undefined>(undefined, help, type)
}

/** What Loam leaves to others may only be said to be so. */
const unsupported: SettingType<string> = { expected: 'supported: leave it out', parse: () => undefined }

/** All settings by their names; a Mesos agent's flag keeps its name. */
export const SETTINGS = {
  root: setting('/var/lib/loam', 'Folder of the store.', folder),
  state: setting('/run/loam', 'Folder for bundles and sockets; gone after a reboot.', folder),
  work_dir: optional('Where `root` is not given, the store is `loam` in this folder.', folder),
  runtime_dir: optional('Where `state` is not given, it is `loam` in this folder.', folder),
  image_providers: setting<readonly ('docker' | 'appc')[]>(
    ['docker', 'appc'],
    'Types of images that are allowed; OCI images are with docker.',
    someOf(['docker', 'appc']),
  ),
  image_provisioner_backend: optional(
    'Backend for root filesystems. Unset: the best that works.',
    oneOf(['erofs', 'overlay', 'copy', 'bind']),
  ),
  docker_registry: setting<readonly string[]>(
    ['https://registry-1.docker.io'],
    'Places of images, tried in this order: addresses of registries (the first is that of names without a host), folders of archives, hdfs:// folders.',
    listOf(
      'http(s)://HOST[:PORT] without a password, /DIR, file:///DIR or hdfs://…, separated by commas',
      (part) => /^https?:\/\/[^/@]+\/?$/.test(part) || /^(?:\/|file:\/\/\/|hdfs:\/\/)/.test(part),
    ),
  ),
  docker_config: optional("Docker's config.json with credentials: a path, or the JSON itself.", text),
  credential_helper_env: setting<readonly string[]>(
    [],
    'Variables that credential helpers get besides those of keyrings, clouds and proxies; NAME* for all that begin so.',
    listOf('names of environment variables, separated by commas', (name) => /^[A-Za-z_]\w*\*?$/.test(name)),
  ),
  docker_ignore_runtime: setting(
    false,
    "Take nothing of an image's environment, working directory, entrypoint and command.",
    flag,
  ),
  docker_store: setting<'local'>('local', 'Where Docker images are kept: on this machine.', oneOf(['local'])),
  docker_store_dir: optional('Docker store of a Mesos agent, for `loam import --from-mesos`.', absolutePath),
  appc_store_dir: optional(
    'Appc store of a Mesos agent: images are looked for there first, and `loam import --from-mesos` reads it.',
    absolutePath,
  ),
  appc_simple_discovery_uri_prefix: setting<readonly string[]>(
    ['https://'],
    'What the addresses of Appc images begin with, tried in this order. After a bare https:// or http://, meta discovery.',
    listOf('http(s)://[…] without a password, /DIR, file:///DIR or hdfs://…, separated by commas', (part) =>
      /^(?:https?:\/\/(?![^/]*@)|\/|file:\/\/\/|hdfs:\/\/)/.test(part),
    ),
  ),
  signature_policy: optional(
    'File that says which images may be used: from where, and signed by whom (docs/signatures.md). Unset: all.',
    absolutePath,
  ),
  appc_keyring: optional(
    'File of OpenPGP keys; when set, an ACI needs a signature (.asc) by one of them.',
    absolutePath,
  ),
  image_gc_config: optional<ImageGcConfig>(
    'When and what `loam gc` collects: JSON, or the path of a file of it.',
    imageGcConfig,
  ),
  fetcher_stall_timeout: setting(60_000, 'Longest time in which a server sends nothing.', duration),
  connect_timeout: setting(15_000, 'Longest time to make a connection.', duration),
  registry_tries: setting(5, 'Tries of a request that fails for the moment.', count),
  registry_retry_time: setting(
    90_000,
    'Longest time that one request waits between its tries, all waits together; a server may ask for a wait (Retry-After).',
    duration,
  ),
  insecure_registries: setting<readonly string[]>(
    [],
    'Hosts that may be spoken to without TLS or a valid certificate.',
    list,
  ),
  private_token_servers: setting<readonly string[]>(
    [],
    'Hosts at private addresses that registries elsewhere may send to for tokens.',
    list,
  ),
  private_redirects: setting<readonly string[]>(
    [],
    'Hosts at private addresses that registries and web servers elsewhere may send requests on to.',
    list,
  ),
  certs_dirs: setting<readonly string[]>(
    ['/etc/loam/certs.d', '/etc/containerd/certs.d', '/etc/docker/certs.d'],
    'Folders with certificates and mirrors, one folder for each host.',
    list,
  ),
  hadoop_home: optional('Folder of a Hadoop client, for hdfs://. Unset: HADOOP_HOME, or PATH.', absolutePath),
  runtime: setting('runc', 'OCI runtime that `loam run` starts.', program),
  upperdir_label: setting(
    false,
    'loamd tells the folder that a snapshot writes to by the label containerd.io/snapshot/overlay.upperdir.',
    flag,
  ),
  mount_options: setting<readonly string[]>(
    [],
    'Options that loamd adds to every overlay mount that it describes to containerd, for example volatile.',
    listOf('options of overlayfs as mount(8) takes them, but lowerdir, upperdir and workdir', (option) =>
      /^(?!(?:lowerdir\+?|upperdir|workdir|datadir\+?)=)[a-z_]+(?:=[^,\0\s]+)?$/.test(option),
    ),
  ),
  sandbox_directory: setting(
    '/mnt/mesos/sandbox',
    'Folder in a container that relative targets of volumes are in.',
    absolutePath,
  ),
  switch_user: setting(true, "Run as the image's user; false: as the one who runs Loam.", flag),
  launcher: setting<'linux'>('linux', 'How processes are started.', oneOf(['linux'])),
  isolation: setting<readonly string[]>(
    ['filesystem/linux', 'docker/runtime', 'appc/runtime', 'volume/image'],
    "A Mesos agent's isolators. Images need filesystem/linux; the others change nothing.",
    list,
  ),
  containerizers: setting<readonly string[]>(
    ['mesos'],
    "A Mesos agent's containerizers; without mesos, `loam gc` collects nothing by itself.",
    someOf(['mesos', 'docker']),
  ),
  enforce_container_disk_quota: setting<boolean>(
    false,
    'Loam reports the folders that count for a quota; whoever runs containers enforces it.',
    {
      expected: 'false, which is all that is allowed',
      parse: (value) => (flag.parse(value) === false ? false : undefined),
    },
  ),
  secret_resolver: optional(
    'Secrets are given by value; a module that resolves references cannot be loaded.',
    unsupported,
  ),
  limit_layer_bytes: setting(DEFAULT_LAYER_LIMITS.tarBytes, 'Uncompressed bytes of one layer.', count),
  limit_layer_entries: setting(DEFAULT_LAYER_LIMITS.entries, 'Files of one layer.', count),
  limit_layer_depth: setting(DEFAULT_LAYER_LIMITS.depth, 'Directories in each other in one layer.', count),
  limit_layer_xattr_bytes: setting(
    DEFAULT_LAYER_LIMITS.xattrBytes,
    'Extended attributes of one layer, in bytes.',
    count,
  ),
  limit_layer_ratio: setting(
    DEFAULT_LAYER_LIMITS.ratio,
    'Uncompressed bytes of a layer for each compressed one.',
    count,
  ),
  limit_file_bytes: setting(DEFAULT_LAYER_LIMITS.fileBytes, 'Size of one file.', count),
  limit_image_layers: setting(DEFAULT_IMAGE_LIMITS.layers, 'Layers of one image.', count),
  limit_image_bytes: setting(
    DEFAULT_IMAGE_LIMITS.bytes,
    'Uncompressed bytes of all layers of one image together.',
    count,
  ),
  limit_pull_time: setting(
    DEFAULT_IMAGE_LIMITS.pullMs,
    'Longest time to bring in an image, from the first question to the last byte.',
    duration,
  ),
  limit_manifest_bytes: setting(
    DEFAULT_IMAGE_LIMITS.manifestBytes,
    'Size of a manifest or an index of a registry; 4 MiB is what registries themselves allow.',
    count,
  ),
  limit_config_bytes: setting(DEFAULT_IMAGE_LIMITS.configBytes, "Size of an image's config.", count),
} as const

/** Name of a setting, as `loam config` lists it. */
export type SettingName = keyof typeof SETTINGS

/** Other names of settings: those of Mesos's fetcher plugins, and those that Mesos's first image flags had in 2015. */
export const SETTING_ALIASES: Readonly<Record<string, SettingName>> = {
  docker_stall_timeout: 'fetcher_stall_timeout',
  curl_stall_timeout: 'fetcher_stall_timeout',
  provisioners: 'image_providers',
  appc_provisioner_backend: 'image_provisioner_backend',
}

/** The values in force. Times are in ms, sizes in bytes. */
export type Settings = { readonly [Name in SettingName]: (typeof SETTINGS)[Name]['defaultValue'] }

/** The names in the order of the table. */
export const SETTING_NAMES = Object.keys(SETTINGS) as SettingName[]
