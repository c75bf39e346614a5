/** A tool that makes a root filesystem from an image; the folder is on a fresh file system. */
export interface LazyTool {
  readonly name: string
  readonly prepare: (folder: string, warmUpImage: string) => Promise<void>
  /** Shell command that prints the path of a root filesystem. */
  readonly provision: (folder: string, image: string) => string
  readonly cleanUp: (folder: string) => Promise<void>
}
