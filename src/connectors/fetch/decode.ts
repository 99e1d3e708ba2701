import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate, zstdDecompress } from 'node:zlib'
import { messageOf, SluiceError } from '../../errors.ts'
import { FetchFailure } from './fetch-failure.ts'

type Decode = (bytes: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>

const codings: ReadonlyMap<string, Decode> = new Map<string, Decode>([
  ['gzip', promisify(gunzip) as Decode],
  ['x-gzip', promisify(gunzip) as Decode],
  ['deflate', promisify(inflate) as Decode],
  ['br', promisify(brotliDecompress) as Decode],
  ['zstd', promisify(zstdDecompress) as Decode],
])

/**
 * Undoes the content coding of a body. None is asked for, but servers send one all the same. The decoder works in pieces
 * and is stopped when what it gave is over `maxBytes`: a bomb costs no more memory than an honest body.
 * @throws SluiceError BODY_TOO_LARGE; FetchFailure `protocol` (a coding that is not known, more than one, bytes that are
 * not in it), `truncated` (they end too early).
 */
export async function decoded(body: Buffer, coding: string | undefined, maxBytes: number): Promise<Buffer> {
  const name = coding?.trim().toLowerCase() ?? ''
  if (name === '' || name === 'identity' || body.length === 0) return body
  const decode = codings.get(name)
  if (!decode) throw new FetchFailure('protocol', `the content coding "${name.slice(0, 50)}" is not known here`)
  try {
    return await decode(body, { maxOutputLength: maxBytes })
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code ?? ''
    if (code === 'ERR_BUFFER_TOO_LARGE') {
      throw new SluiceError('BODY_TOO_LARGE', `the body is over ${maxBytes} bytes (${body.length} bytes of ${name})`)
    }
    const failure = /BUF_ERROR|UNEXPECTED_END/.test(code) ? 'truncated' : 'protocol'
    throw new FetchFailure(failure, `the body is not ${name}: ${messageOf(thrown)}`, { cause: thrown })
  }
}
