/** Answers with integers of any size: JSON has no limit to them, and a sum of 64 bits is not to be rounded. */
import { type HttpReply, reply, z } from 'sluice'

declare global {
  interface JSON {
    /** A value that `stringify` writes as this text. */
    rawJSON(text: string): unknown
  }
}

export const exact = (value: unknown): string =>
  JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? JSON.rawJSON(String(part)) : part))

export const answer = (value: unknown): HttpReply =>
  reply(200, Buffer.from(exact(value)), {
    'content-type': 'application/json; charset=utf-8',
    'cache-control': 'no-store',
  })

/** As the documentation shows it. */
const sum = (description: string, example: number) =>
  z.number().meta({ type: 'integer', format: 'int64', minimum: 0, description, example })

export const sums = {
  cdn: sum('Bytes from the CDN', 321_123),
  p2p: sum('Bytes from peers', 560_065),
  sessions: sum('Sessions that began', 1),
}

export interface SumsRow {
  readonly cdn: string
  readonly p2p: string
  readonly sessions: string
}

export const sumsOf = ({ cdn, p2p, sessions }: SumsRow) => ({
  ...{ cdn: BigInt(cdn), p2p: BigInt(p2p), sessions: BigInt(sessions) },
})

export const timeText = (time: string): string => new Date(time).toISOString()
