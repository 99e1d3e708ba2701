/** How a document is kept: JSON, and its byte fields beside it. */
import type { Refusal } from '../ports/sink.ts'

/** UTF-8 bytes of a document's JSON without its byte fields. */
export const maxBodyBytes = 1_048_576
/** Bytes of a field whose base64 would be over 16 MB: longer ones go to the object store. */
export const maxInlineBytes = 12_000_000
/** UTF-8 bytes of a document's key. */
export const maxKeyBytes = 1_000

export interface EncodedDocument {
  readonly body: string
  readonly fields: readonly { readonly field: string; readonly bytes: Uint8Array }[]
}

/** Splits a document into JSON text and byte fields (top-level fields that are Uint8Array), or says why it cannot be kept. */
export function encodeDocument(document: unknown): EncodedDocument | Refusal {
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    return refuse('invalid document', `a document is an object, not ${JSON.stringify(document)?.slice(0, 100)}`)
  }
  const fields: { field: string; bytes: Uint8Array }[] = []
  for (const [field, value] of Object.entries(document)) {
    if (value instanceof Uint8Array) fields.push({ field, bytes: value })
  }
  const json = fields.length === 0 ? document : without(document, fields)
  const body = encodeJson(json)
  return typeof body === 'string' ? { body, fields } : body
}

const without = (document: object, fields: readonly { readonly field: string }[]): object => {
  const rest: Record<string, unknown> = { ...document }
  for (const { field } of fields) delete rest[field]
  return rest
}

/** A zero character, or half of a surrogate pair, which JSON.stringify writes as an escape: jsonb refuses both. */
const notText = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/

function encodeJson(value: object): string | Refusal {
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch (thrown) {
    return refuse('invalid document', `it is not JSON: ${thrown instanceof Error ? thrown.message : thrown}`)
  }
  if (text?.[0] !== '{') return refuse('invalid document', 'it is not a JSON object')
  if (text.includes('\\u') && notText.test(text)) {
    return refuse('invalid document', 'a text in it holds a zero character or half of a surrogate pair')
  }
  const bytes = text.length * 3 <= maxBodyBytes ? 0 : Buffer.byteLength(text)
  if (bytes > maxBodyBytes) {
    return refuse('document too large', `its JSON has ${bytes} bytes; ${maxBodyBytes} are allowed`)
  }
  return text
}

/** Why a text cannot be a document's key; undefined when it can. */
export function keyFault(key: unknown): Refusal | undefined {
  if (typeof key === 'string' && key !== '' && !key.includes('\0') && Buffer.byteLength(key) <= maxKeyBytes)
    return undefined
  return refuse(
    'invalid document',
    `${JSON.stringify(key)?.slice(0, 100)} is not a key; text of 1 to ${maxKeyBytes} bytes without a zero character is`,
  )
}

export const refuse = (reason: string, detail: string): Refusal => ({ reason, detail })

export const isRefusal = (value: object): value is Refusal => 'reason' in value
