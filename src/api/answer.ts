/** What a route's function gave, as an answer of Fastify's. */
import { validateHeaderName, validateHeaderValue } from 'node:http'
import { Readable } from 'node:stream'
import { ReadableStream } from 'node:stream/web'
import type { FastifyReply } from 'fastify'
import { messageOf, SluiceError } from '../errors.ts'
import { HttpReply } from '../sdk/endpoint.ts'

/** @throws SluiceError INTERNAL for what cannot be an answer: a status that is none, a body that JSON cannot hold. */
export function send(reply: FastifyReply, answer: unknown): FastifyReply {
  if (!(answer instanceof HttpReply)) {
    return answer === undefined ? reply.code(204).send() : reply.type(json).send(stringify(answer))
  }
  const { status, body } = answer
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw new SluiceError('INTERNAL', `A reply has the status ${status}; 200 to 599 are allowed`)
  }
  const headers = checkedHeaders(answer.headers)
  reply.code(status).headers(headers)
  if (body === undefined || body === null) return reply.send()
  const { payload, type } = encode(body, headers['content-type'])
  return reply.type(type).send(payload)
}

const json = 'application/json; charset=utf-8'
const bytes = 'application/octet-stream'

/** A text whose content type is given and not JSON is sent as it is. */
function encode(body: unknown, type: string | undefined): { payload: Buffer | Readable | string; type: string } {
  if (body instanceof Uint8Array) {
    return { payload: Buffer.from(body.buffer, body.byteOffset, body.byteLength), type: type ?? bytes }
  }
  const stream = streamOf(body)
  if (stream) return { payload: stream, type: type ?? bytes }
  if (typeof body === 'string' && type !== undefined && !/[/+]json\b/.test(type)) return { payload: body, type }
  return { payload: stringify(body), type: type ?? json }
}

function streamOf(body: unknown): Readable | undefined {
  if (body instanceof Readable) return body
  if (body instanceof ReadableStream) return Readable.fromWeb(body)
  if (typeof body !== 'object' || body === null || !(Symbol.asyncIterator in body)) return undefined
  return Readable.from(body as AsyncIterable<Uint8Array>, { objectMode: false })
}

function checkedHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  try {
    return Object.fromEntries(
      Object.entries(headers).map(([name, value]) => {
        validateHeaderName(name)
        validateHeaderValue(name, value)
        return [name.toLowerCase(), value]
      }),
    )
  } catch (cause) {
    throw new SluiceError('INTERNAL', `A reply has a header that cannot be sent: ${messageOf(cause)}`, { cause })
  }
}

function stringify(value: unknown): string {
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch (cause) {
    throw new SluiceError('INTERNAL', `A reply cannot be written as JSON: ${messageOf(cause)}`, { cause })
  }
  if (text === undefined) throw new SluiceError('INTERNAL', `A reply of ${typeof value} cannot be written as JSON`)
  return text
}
