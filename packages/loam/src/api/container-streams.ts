import * as v from 'valibot'
import { CopyReportSchema, exportFields } from './containers.ts'
import { download, upload } from './operation.ts'
import { count, text } from './schema.ts'

/** Streams of images and containers. */
export const CONTAINER_DOWNLOADS = {
  'containers.download': download({
    method: 'GET',
    mediaType: 'application/octet-stream',
    path: '/v1/export',
    summary: 'Send an image, or the root filesystem of a container, as a stream. A layout of OCI is one tar.',
    request: v.strictObject({ ...exportFields, format: v.picklist(['erofs', 'tar', 'ext4', 'oci']) }),
  }),
  'containers.logs': download({
    method: 'GET',
    mediaType: 'application/octet-stream',
    path: '/v1/containers/logs',
    summary: 'Send the output of a detached process.',
    request: v.strictObject({
      id: text,
      /** Only the last lines. */
      tail: v.optional(count),
      /** Wait for more output until the process has ended. */
      follow: v.optional(v.boolean()),
    }),
  }),
  'containers.pack': download({
    method: 'GET',
    mediaType: 'application/x-tar',
    path: '/v1/containers/files',
    summary: 'Send a file or a directory of a container as a tar.',
    request: v.strictObject({
      id: text,
      /** Path in the container. */
      path: text,
      followsLink: v.optional(v.boolean()),
    }),
    result: CopyReportSchema,
  }),
}

/** Files of containers that come as streams. */
export const CONTAINER_UPLOADS = {
  'containers.unpack': upload({
    method: 'PUT',
    path: '/v1/containers/files',
    summary: 'Unpack a tar, which is the body of the request, into a directory of a container.',
    request: v.strictObject({
      id: text,
      /** Path of the directory in the container. */
      path: text,
    }),
    result: CopyReportSchema,
  }),
}
