import type {
  Conversations,
  Downloads,
  EventOf,
  OperationName,
  ReplyOf,
  RequestOf,
  ResultOf,
  Uploads,
} from 'loamfs/internal'
import { downloadContainer, downloadLogs, packFiles, unpackFiles } from './container-streams.ts'
import { CONTAINER_ACTIONS, execInContainer, runContainer } from './containers.ts'
import type { Action, Context } from './context.ts'
import { downloadImages, IMAGE_ACTIONS, uploadImage, uploadImages } from './images.ts'
import { downloadSnapshot, SNAPSHOT_ACTIONS } from './snapshots.ts'
import { STORE_ACTIONS } from './store.ts'
import { UI_ACTIONS } from './ui.ts'

export type { Context, DaemonState, PageAccess } from './context.ts'

/** The action of each operation of the table. */
export const ACTIONS: { readonly [Name in OperationName]: Action<Name> } = {
  ...STORE_ACTIONS,
  ...IMAGE_ACTIONS,
  ...CONTAINER_ACTIONS,
  ...SNAPSHOT_ACTIONS,
  ...UI_ACTIONS,
}

type DownloadAction<Name extends keyof Downloads> = (
  context: Context<unknown>,
  request: RequestOf<Downloads[Name]>,
  output: string,
) => Promise<ResultOf<Downloads[Name]>>

/** The action of each operation with a stream, which writes to a pipe. */
export const DOWNLOAD_ACTIONS: { readonly [Name in keyof Downloads]: DownloadAction<Name> } = {
  'containers.download': downloadContainer,
  'containers.logs': downloadLogs,
  'containers.pack': packFiles,
  'images.download': downloadImages,
  'snapshots.download': downloadSnapshot,
}

type UploadAction<Name extends keyof Uploads> = (
  context: Context<EventOf<Uploads[Name]>>,
  request: RequestOf<Uploads[Name]>,
  body: AsyncIterable<Uint8Array>,
) => Promise<ResultOf<Uploads[Name]>>

/** The action of each operation that takes a stream. */
export const UPLOAD_ACTIONS: { readonly [Name in keyof Uploads]: UploadAction<Name> } = {
  'images.upload': uploadImage,
  'images.uploadAll': uploadImages,
  'containers.unpack': unpackFiles,
}

type ConversationAction<Name extends keyof Conversations> = (
  context: Context<EventOf<Conversations[Name]>>,
  request: RequestOf<Conversations[Name]>,
  /** Tells the client what it has to do, and returns its reply. @throws when it has disconnected */
  ask: (event: EventOf<Conversations[Name]>) => Promise<ReplyOf<Conversations[Name]>>,
) => Promise<ResultOf<Conversations[Name]>>

/** What each operation does in which the client has a part. */
export const CONVERSATION_ACTIONS: {
  readonly [Name in keyof Conversations]: ConversationAction<Name>
} = { 'containers.run': runContainer, 'containers.exec': execInContainer }
