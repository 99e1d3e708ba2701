declare module 'pg-copy-streams' {
  import type { Readable, Writable } from 'node:stream'
  import type { Submittable } from 'pg'

  interface CopyInStream extends Writable, Submittable {
    /** Rows that the server took, once the stream has finished. */
    readonly rowCount: number
  }

  export function from(sql: string): CopyInStream
  export function to(sql: string): Readable & Submittable
}
