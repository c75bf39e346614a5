import { DEFAULT_IMAGE_LIMITS, DEFAULT_LAYER_LIMITS } from '../tree/index.ts'
import { type ImageGcConfig, imageGcConfig } from './image-gc-config.ts'
import {
  absolutePath,
  count,
  domainName,
  duration,
  flag,
  folder,
  list,
  listOf,
  oneOf,
  port,
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

/** The type of a setting that Loam has only to refuse it, since Mesos has it. */
const unsupported: SettingType<string> = { expected: 'supported: omit it', parse: () => undefined }

/** All settings by their names; a Mesos agent's flag keeps its name. */
export const SETTINGS = {
  root: setting('/var/lib/loam', 'Directory of the store.', folder),
  state: setting('/run/loam', 'Directory for bundles and sockets; not kept across reboots.', folder),
  work_dir: optional('Without `root`, the store is the subdirectory `loam` of this directory.', folder),
  runtime_dir: optional(
    'Without `state`, the state directory is the subdirectory `loam` of this directory.',
    folder,
  ),
  image_providers: setting<readonly ('docker' | 'appc')[]>(
    ['docker', 'appc'],
    'Allowed image types. OCI images count as docker.',
    someOf(['docker', 'appc']),
  ),
  image_provisioner_backend: optional(
    'Backend for root filesystems. Unset: the best one that works on this machine.',
    oneOf(['erofs', 'overlay', 'copy', 'bind']),
  ),
  docker_registry: setting<readonly string[]>(
    ['https://registry-1.docker.io'],
    'Where Docker images are fetched from, in this order: registry URLs (the first is the default registry), directories of archives, hdfs:// directories.',
    listOf(
      'http(s)://HOST[:PORT] without a password, /DIR, file:///DIR or hdfs://…, separated by commas',
      (part) => /^https?:\/\/[^/@]+\/?$/.test(part) || /^(?:\/|file:\/\/\/|hdfs:\/\/)/.test(part),
    ),
  ),
  docker_config: optional("Docker's config.json with credentials: a path, or the JSON itself.", text),
  credential_helper_env: setting<readonly string[]>(
    [],
    'Environment variables passed to credential helpers, in addition to those of keyrings, clouds and proxies; NAME* matches a prefix.',
    listOf('names of environment variables, separated by commas', (name) => /^[A-Za-z_]\w*\*?$/.test(name)),
  ),
  image_credential_provider_config: optional(
    "The kubelet's configuration of credential providers (CredentialProviderConfig), whose programs are asked after the files.",
    absolutePath,
  ),
  image_credential_provider_bin_dir: optional(
    'Directory of the programs of credential providers.',
    absolutePath,
  ),
  docker_ignore_runtime: setting(
    false,
    'Ignore the environment, working directory, entrypoint and command of an image.',
    flag,
  ),
  docker_store: setting<'local'>('local', 'Docker store type; only local exists.', oneOf(['local'])),
  docker_store_dir: optional(
    'Docker store of a Mesos agent, read by `loam import --from-mesos`.',
    absolutePath,
  ),
  appc_store_dir: optional(
    'Appc store of a Mesos agent, searched before discovery and read by `loam import --from-mesos`.',
    absolutePath,
  ),
  appc_simple_discovery_uri_prefix: setting<readonly string[]>(
    ['https://'],
    'Prefixes for simple discovery of Appc images, tried in this order. A bare https:// or http:// enables meta discovery.',
    listOf('http(s)://[…] without a password, /DIR, file:///DIR or hdfs://…, separated by commas', (part) =>
      /^(?:https?:\/\/(?![^/]*@)|\/|file:\/\/\/|hdfs:\/\/)/.test(part),
    ),
  ),
  signature_policy: optional(
    'Signature policy file: allowed image locations and signers (docs/signatures.md). Unset: all images are allowed.',
    absolutePath,
  ),
  appc_keyring: optional(
    'File of OpenPGP keys. If set, an ACI must be signed (.asc) with one of them.',
    absolutePath,
  ),
  image_gc_config: optional<ImageGcConfig>(
    'Garbage collection settings of `loam gc`: JSON, or the path of a JSON file.',
    imageGcConfig,
  ),
  disk_budget: optional(
    'Bytes that layers may take before `loam gc` and loamd evict the data of those that were pulled lazily and that nothing shows, the least recently used first. It is fetched again as it is read. Unset: no data is evicted.',
    count,
  ),
  blob_retention: setting<'none' | 'time' | 'size' | 'all'>(
    'none',
    'Compressed blobs of pulled layers to keep for push and export: none, all, or all up to blob_retention_time or blob_retention_size. When space is short, collection and pulls remove them first.',
    oneOf(['none', 'time', 'size', 'all']),
  ),
  blob_retention_time: setting(604_800_000, 'How long blob_retention=time keeps a blob.', duration),
  blob_retention_size: setting(
    10 * 2 ** 30,
    'Maximum total size of the blobs that blob_retention=size keeps; the oldest are removed.',
    count,
  ),
  lazy_pull: setting<'auto' | 'off'>(
    'auto',
    'Whether layers with a trusted lazy index are pulled lazily: their data comes when it is read and in the background (auto), or before anything is mounted (off).',
    oneOf(['auto', 'off']),
  ),
  lazy_index: setting<'off' | 'make' | 'publish'>(
    'off',
    'Whether a pull makes lazy indexes of the layers that it fetches (make), and also publishes them beside the image in its registry (publish).',
    oneOf(['off', 'make', 'publish']),
  ),
  lazy_index_dir: optional(
    'Directory of lazy indexes, which machines may share: made ones are written to it, and those in it are trusted with lazy_trust=own or repository.',
    absolutePath,
  ),
  lazy_trust: setting<'signed' | 'pinned' | 'own' | 'repository'>(
    'signed',
    'Which lazy indexes are trusted: signed as signature_policy requires it; also pinned by the request; also those of lazy_index_dir (own); also those that the repository of the image has.',
    oneOf(['signed', 'pinned', 'own', 'repository']),
  ),
  fetcher_stall_timeout: setting(
    60_000,
    'How long to wait for data before giving up on a transfer.',
    duration,
  ),
  connect_timeout: setting(15_000, 'How long to wait for a connection.', duration),
  registry_tries: setting(5, 'Attempts per request before a transient failure is reported.', count),
  registry_retry_time: setting(
    90_000,
    'Maximum total wait between the attempts of a request, including waits that a server asks for (Retry-After).',
    duration,
  ),
  lazy_stall_timeout: setting(
    300_000,
    'How long a read of a partial layer waits while no data of the layer arrives, before it fails.',
    duration,
  ),
  insecure_registries: setting<readonly string[]>(
    [],
    'Hosts to access without TLS or without verifying their certificates.',
    list,
  ),
  private_token_servers: setting<readonly string[]>(
    [],
    'Token servers at private addresses that public registries may refer to.',
    list,
  ),
  private_redirects: setting<readonly string[]>(
    [],
    'Hosts at private addresses that public registries and web servers may redirect to.',
    list,
  ),
  certs_dirs: setting<readonly string[]>(
    ['/etc/loam/certs.d', '/etc/containerd/certs.d', '/etc/docker/certs.d'],
    'Directories of certificates and mirrors, with one subdirectory per host.',
    list,
  ),
  hadoop_home: optional(
    'Directory of a Hadoop client, for hdfs://. Unset: HADOOP_HOME, then PATH.',
    absolutePath,
  ),
  runtime: setting('runc', 'OCI runtime that `loam run` starts.', program),
  container_log_size: setting(
    64 * 2 ** 20,
    'Bytes to keep of the output of a detached process. When there is more, the older half is removed.',
    count,
  ),
  size_reservation: setting(
    false,
    'Whether to allocate all bytes of a size limit on the disk when it is set. A file system in a file is used for it then.',
    flag,
  ),
  upperdir_label: setting(
    false,
    'Whether loamd reports the upper directory of a snapshot in the label containerd.io/snapshot/overlay.upperdir.',
    flag,
  ),
  snapshot_mounts: setting<'overlay' | 'erofs'>(
    'overlay',
    'Mounts that loamd returns to containerd: an overlay on layers that it has mounted itself (overlay), or an EROFS mount with device= below the overlay, which containerd 2.2 or a runtime of virtual machines makes (erofs).',
    oneOf(['overlay', 'erofs']),
  ),
  mount_options: setting<readonly string[]>(
    [],
    'Options that loamd adds to every overlay mount it returns to containerd, for example volatile.',
    listOf(
      'options of overlayfs as in mount(8), except lowerdir, upperdir and workdir, and index=on, nfs_export=on and userxattr, whose changes Loam cannot commit',
      (option) =>
        /^(?!(?:lowerdir\+?|upperdir|workdir|datadir\+?)=|(?:index|nfs_export)=on$|userxattr$)[a-z_]+(?:=[^,\0\s]+)?$/.test(
          option,
        ),
    ),
  ),
  socket_group: optional(
    "Group whose members may use loamd's own socket. This makes them equal to root.",
    text,
  ),
  containerd_socket: setting(
    '/run/containerd/containerd.sock',
    'Socket of the containerd behind loamd: its content store for the diff API, and its CRI for the image service.',
    text,
  ),
  csi_socket: optional(
    "Socket of loamd's CSI driver, by which the kubelet publishes volumes. Unset: no CSI driver.",
    folder,
  ),
  csi_driver_name: setting('csi.loam', 'Name of the CSI driver, which volumes refer to.', domainName),
  csi_node_id: optional('Name of this node in the cluster, for the CSI driver. Unset: the host name.', text),
  csi_controller: setting(
    false,
    'Whether the CSI driver has the controller service, too: tests of drivers need it, clusters do not.',
    flag,
  ),
  metrics_address: optional(
    'Address of the loopback interface at which loamd serves its metrics, besides its own socket. Each user of the machine can read them.',
    text,
  ),
  ui_port: optional(
    'Port of the loopback interface for the web page of `loam ui`; any free one without it.',
    port,
  ),
  sandbox_directory: setting(
    '/mnt/mesos/sandbox',
    'Directory in a container for volumes with relative targets.',
    absolutePath,
  ),
  switch_user: setting(
    true,
    "Whether to run as the image's user (true) or as the current user (false).",
    flag,
  ),
  launcher: setting<'linux'>('linux', 'Launcher of a Mesos agent; only linux exists.', oneOf(['linux'])),
  isolation: setting<readonly string[]>(
    ['filesystem/linux', 'docker/runtime', 'appc/runtime', 'volume/image'],
    'Isolators of a Mesos agent. Images require filesystem/linux; other isolators have no effect.',
    list,
  ),
  containerizers: setting<readonly string[]>(
    ['mesos'],
    'Containerizers of a Mesos agent. Without mesos, `loam gc` does not collect automatically.',
    someOf(['mesos', 'docker']),
  ),
  enforce_container_disk_quota: setting<boolean>(
    false,
    'Loam reports the directories that count toward a quota; the runtime has to enforce it.',
    {
      expected: 'false, the only allowed value',
      parse: (value) => (flag.parse(value, '') === false ? false : undefined),
    },
  ),
  secret_resolver: optional(
    'Secret resolver module; not supported, secrets are given by value.',
    unsupported,
  ),
  limit_layer_bytes: setting(DEFAULT_LAYER_LIMITS.tarBytes, 'Maximum uncompressed size of a layer.', count),
  limit_layer_entries: setting(DEFAULT_LAYER_LIMITS.entries, 'Maximum number of files in a layer.', count),
  limit_layer_depth: setting(DEFAULT_LAYER_LIMITS.depth, 'Maximum directory depth of a layer.', count),
  limit_layer_xattr_bytes: setting(
    DEFAULT_LAYER_LIMITS.xattrBytes,
    'Maximum total size of extended attributes in a layer.',
    count,
  ),
  limit_layer_ratio: setting(DEFAULT_LAYER_LIMITS.ratio, 'Maximum compression ratio of a layer.', count),
  limit_file_bytes: setting(DEFAULT_LAYER_LIMITS.fileBytes, 'Maximum size of a file.', count),
  limit_image_layers: setting(DEFAULT_IMAGE_LIMITS.layers, 'Maximum number of layers in an image.', count),
  limit_image_bytes: setting(
    DEFAULT_IMAGE_LIMITS.bytes,
    'Maximum uncompressed size of all layers of an image.',
    count,
  ),
  limit_pull_time: setting(
    DEFAULT_IMAGE_LIMITS.pullMs,
    'Maximum duration of a pull, from the first request to the last byte.',
    duration,
  ),
  limit_manifest_bytes: setting(
    DEFAULT_IMAGE_LIMITS.manifestBytes,
    'Maximum size of a manifest or an index; registries themselves accept up to 4 MiB.',
    count,
  ),
  limit_config_bytes: setting(DEFAULT_IMAGE_LIMITS.configBytes, 'Maximum size of an image config.', count),
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
