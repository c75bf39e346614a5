import type {
  RemoteContainers,
  RemoteFiles,
  RemoteImages,
  RemoteLoam,
  RemoteProcesses,
  RemoteSnapshots,
  RemoteSnapshotter,
  RemoteStore,
} from '../client/index.ts'

/** The public operations of a class. */
type Operations<Class> = Pick<Class, keyof Class>

/** The common parts of `openLoam` and `connectLoam`. */
export interface FrontDoor
  extends Pick<RemoteLoam, 'pull' | 'push' | 'provision' | 'run' | 'destroy' | 'export' | 'recover'> {
  readonly images: Operations<RemoteImages>
  readonly containers: Omit<Operations<RemoteContainers>, 'processes' | 'files'> & {
    readonly processes: Operations<RemoteProcesses>
    readonly files: Operations<RemoteFiles>
  }
  readonly snapshots: Omit<Operations<RemoteSnapshots>, 'open'> & {
    readonly open: () => Operations<RemoteSnapshotter>
  }
  readonly store: Omit<Operations<RemoteStore>, 'settings'>
}

/** A front door under test, of an empty store that works without root. */
export interface FrontDoorUnderTest extends AsyncDisposable {
  readonly loam: FrontDoor
  /** A directory for the files of the test. */
  readonly folder: string
  /** An image with a shell; undefined where no container can run. */
  readonly shellImage?: string
}

/** Registers a test of a front door. */
export type Check = (what: string, act: (world: FrontDoorUnderTest) => Promise<void>) => void
