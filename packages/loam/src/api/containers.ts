import * as v from 'valibot'
import type {
  ContainerProcess,
  CopyReport,
  HostMount,
  ProvisionedImage,
  ProvisionedVolume,
} from '../containers/index.ts'
import type { UnexportedImages } from '../exports/index.ts'
import type { ContainerId } from '../metadata/index.ts'
import type { ContainerInfo, RecoveryReport } from '../provisioner/index.ts'
import { fetchFields, image, imageFields, lazyFields, PullEventSchema } from './fetch.ts'
import { PulledImageSchema } from './images.ts'
import { operation } from './operation.ts'
import {
  chainId,
  count,
  diffId,
  digest,
  failure,
  fileMode,
  list,
  matching,
  orUndefined,
  path,
  text,
  timeMs,
} from './schema.ts'

const containerId: v.GenericSchema<string, ContainerId> = v.pipe(
  v.string(),
  v.transform((id) => id as ContainerId),
)

const RootfsSchema = v.object({
  uuid: v.string(),
  containerId,
  state: v.picklist(['provisioning', 'ready', 'destroying']),
  backend: v.string(),
  reference: v.string(),
  imageDigest: digest,
  chainId: orUndefined(chainId),
  layers: list(diffId),
  rootfsPath: v.string(),
  scratchPath: v.string(),
  sizeBytes: orUndefined(count),
  isReadOnly: v.boolean(),
  idMapping: orUndefined(v.string()),
  volumeTarget: orUndefined(v.string()),
  volumeRoot: orUndefined(v.string()),
  volumeSubPath: orUndefined(v.string()),
  volumeMount: orUndefined(v.string()),
  bootId: v.string(),
  createdAtMs: count,
  isStanding: v.boolean(),
})
const ContainerSchema = matching<ContainerInfo>()(
  v.object({
    id: containerId,
    parentId: orUndefined(containerId),
    createdAtMs: count,
    rootfses: list(RootfsSchema),
  }),
)

const ProvisionedSchema = matching<ProvisionedImage>()(
  v.object({
    uuid: v.string(),
    containerId,
    rootfsPath: v.string(),
    backend: v.string(),
    isReadOnly: v.boolean(),
    volumeTarget: orUndefined(v.string()),
    ephemeralVolumes: list(v.string()),
    image: v.intersect([
      PulledImageSchema,
      v.object({
        manifest: v.string(),
        config: v.string(),
        configPath: v.string(),
        dockerManifest: orUndefined(v.unknown()),
        appcManifest: orUndefined(v.unknown()),
      }),
    ]),
  }),
)
const VolumeSchema = matching<ProvisionedVolume>()(
  v.object({ rootfs: ProvisionedSchema, containerPath: v.string(), isReadOnly: v.boolean() }),
)
export const HostMountSchema = matching<HostMount>()(
  v.object({ hostPath: v.string(), target: v.string(), isReadOnly: v.optional(v.boolean()) }),
)

const RecoverySchema = matching<RecoveryReport>()(
  v.object({
    kept: list(v.string()),
    restored: list(v.string()),
    poisoned: list(v.string()),
    undone: list(v.string()),
    swept: list(v.string()),
    quarantined: list(failure),
    failed: list(failure),
  }),
)

export const provisionFields = {
  ...imageFields,
  ...lazyFields,
  backend: v.optional(text),
  /** Ask the registry what the name refers to now. */
  refresh: v.optional(v.boolean()),
  /** User namespace of the container: CONTAINER:HOST:LENGTH[,…] for users, and for groups. */
  userNamespace: v.optional(v.strictObject({ uids: text, gids: text })),
}
export const ImageVolumeSchema = v.strictObject({
  image,
  target: text,
  isReadOnly: v.optional(v.boolean()),
  sizeBytes: v.optional(count),
})
const MountedVolumeSchema = v.strictObject({ ...ImageVolumeSchema.entries, subPath: v.optional(text) })

export const exportFields = {
  ...imageFields,
  /** An image, pulled if needed, or a container. */
  name: text,
  /** Size of an ext4 file system in bytes. */
  sizeBytes: v.optional(count),
  /** Later times of files are this one, in milliseconds since 1970. */
  latestMs: v.optional(timeMs),
}

const ProcessSchema = matching<ContainerProcess>()(
  v.object({
    id: v.string(),
    status: v.picklist(['created', 'running', 'paused', 'exited', 'none', 'unknown']),
    pid: orUndefined(count),
    exitStatus: orUndefined(count),
    isDetached: v.boolean(),
    command: orUndefined(list(v.string())),
  }),
)
const copyFields = {
  id: text,
  /** Path in the container. */
  path: text,
  /** Path on the machine of the daemon. */
  hostPath: path,
  keepsOwners: v.optional(v.boolean()),
  followsLink: v.optional(v.boolean()),
}
export const CopyReportSchema = matching<CopyReport>()(v.object({ leftOut: list(v.string()) }))

/** Operations on containers and their root filesystems. */
export const CONTAINERS = {
  'containers.list': operation({
    method: 'GET',
    path: '/v1/containers',
    summary: 'List the containers that have root filesystems.',
    request: v.strictObject({}),
    result: list(ContainerSchema),
  }),
  'containers.inspect': operation({
    method: 'GET',
    path: '/v1/containers/inspect',
    summary: 'Find a container by its ID.',
    request: v.strictObject({ id: text }),
    result: ContainerSchema,
  }),
  'containers.provision': operation({
    method: 'POST',
    path: '/v1/containers/provision',
    summary: 'Create a root filesystem from an image, which is pulled if it is not in the store.',
    request: v.strictObject({
      ...provisionFields,
      image,
      id: v.optional(text),
      isReadOnly: v.optional(v.boolean()),
      sizeBytes: v.optional(count),
    }),
    result: ProvisionedSchema,
    event: PullEventSchema,
  }),
  'containers.provisionVolumes': operation({
    method: 'POST',
    path: '/v1/containers/volumes',
    summary: 'Create the image volumes of a container.',
    request: v.strictObject({
      ...provisionFields,
      id: text,
      volumes: list(MountedVolumeSchema),
      sandbox: v.optional(path),
    }),
    result: list(VolumeSchema),
    event: PullEventSchema,
  }),
  'containers.provisionContainer': operation({
    method: 'POST',
    path: '/v1/containers/provision-with-volumes',
    summary: 'Create the root filesystem of a container and mount its image volumes in it.',
    request: v.strictObject({
      ...provisionFields,
      id: v.optional(text),
      isReadOnly: v.optional(v.boolean()),
      sizeBytes: v.optional(count),
      image: v.optional(image),
      volumes: list(ImageVolumeSchema),
      hostMounts: v.optional(
        list(v.strictObject({ hostPath: path, target: text, isReadOnly: v.optional(v.boolean()) })),
      ),
    }),
    result: v.object({
      rootfs: ProvisionedSchema,
      volumes: list(VolumeSchema),
      hostMounts: list(HostMountSchema),
    }),
    event: PullEventSchema,
  }),
  'containers.destroy': operation({
    method: 'DELETE',
    path: '/v1/containers',
    summary: 'Destroy a container: its process, its root filesystems, and the containers nested in it.',
    request: v.strictObject({ id: text }),
    result: v.object({
      /** Whether the container existed. */
      destroyed: v.boolean(),
    }),
  }),
  'containers.recover': operation({
    method: 'POST',
    path: '/v1/containers/recover',
    summary: 'Clean up after a crash and remount after a reboot.',
    request: v.strictObject({ ...fetchFields, known: v.optional(list(text)) }),
    result: RecoverySchema,
    event: PullEventSchema,
  }),
  'containers.processes': operation({
    method: 'GET',
    path: '/v1/containers/processes',
    summary: 'List the processes of all containers.',
    request: v.strictObject({}),
    result: list(ProcessSchema),
  }),
  'containers.process': operation({
    method: 'GET',
    path: '/v1/containers/process',
    summary: 'Find the process of a container.',
    request: v.strictObject({ id: text }),
    result: ProcessSchema,
  }),
  'containers.stop': operation({
    method: 'POST',
    path: '/v1/containers/stop',
    summary: 'Stop the process of a container.',
    request: v.strictObject({ id: text, timeoutMs: v.optional(count) }),
    result: v.object({
      /** Whether it ran. */
      stopped: v.boolean(),
    }),
  }),
  'containers.kill': operation({
    method: 'POST',
    path: '/v1/containers/kill',
    summary: 'Send a signal to the process of a container.',
    request: v.strictObject({
      id: text,
      /** Name or number. Without it: SIGKILL. */
      signal: v.optional(text),
    }),
    result: v.object({}),
  }),
  'containers.start': operation({
    method: 'POST',
    path: '/v1/containers/start',
    summary: 'Start the process of a detached container again.',
    request: v.strictObject({ id: text }),
    result: v.object({}),
  }),
  'containers.copyFrom': operation({
    method: 'POST',
    path: '/v1/containers/copy-from',
    summary: 'Copy a file or a directory out of a container.',
    request: v.strictObject(copyFields),
    result: CopyReportSchema,
  }),
  'containers.copyTo': operation({
    method: 'POST',
    path: '/v1/containers/copy-to',
    summary: 'Copy a file or a directory into a container.',
    request: v.strictObject(copyFields),
    result: CopyReportSchema,
  }),
  'containers.export': operation({
    method: 'POST',
    path: '/v1/export',
    summary: 'Write an image, or the root filesystem of a container, to a file or directory.',
    request: v.strictObject({
      ...exportFields,
      format: v.picklist(['erofs', 'tar', 'ext4', 'oci', 'containers-storage', 'containerd-cache']),
      output: path,
      force: v.optional(v.boolean()),
      mode: v.optional(fileMode),
    }),
    result: v.object({}),
    event: PullEventSchema,
  }),
  'containers.unexport': operation({
    method: 'POST',
    path: '/v1/unexport',
    summary: 'Remove an image, or all, from a directory that was exported as containers-storage.',
    request: v.strictObject({
      directory: path,
      /** Name or digest of the image there. Without it: all images, and the files of the store. */
      image: v.optional(text),
    }),
    result: matching<UnexportedImages>()(v.object({ directory: text, names: list(text) })),
  }),
}

/** Schemas with a name in the description. */
export const CONTAINER_SCHEMAS = {
  ContainerInfo: ContainerSchema,
  ProvisionedImage: ProvisionedSchema,
  ProvisionedVolume: VolumeSchema,
  HostMount: HostMountSchema,
  ContainerProcess: ProcessSchema,
  RecoveryReport: RecoverySchema,
}
