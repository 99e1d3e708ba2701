/** Events that are known beforehand, and how they are posted. */

export interface Posted {
  readonly id: string
  readonly token: string
  readonly customer: string
  readonly content: string
  readonly timespan: number
  readonly p2p: number
  readonly cdn: number
  readonly sessionDuration: number
}

export const sample = {
  token: 'c98arf53-ae39-4c9d-af44-c6957ee2f748',
  customer: 'Customer1',
  content: 'channel1',
  timespan: 30000,
  p2p: 560065,
  cdn: 321123,
  sessionDuration: 120000,
}

/** Numbers of a seed: mulberry32. */
export function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

export function knownEvents(count: number, random: () => number): Posted[] {
  const below = (limit: number) => Math.floor(random() * limit)
  return Array.from({ length: count }, (_, at) => {
    const nothing = random() < 0.1
    return {
      ...{ id: `e-${at}-${below(1e9)}`, token: `token ${below(Math.ceil(count / 5))}` },
      ...{ customer: `customer ${below(4)}`, content: `channel ${below(6)}`, timespan: below(30_001) },
      ...{ p2p: nothing ? 0 : below(1e9), cdn: nothing ? 0 : below(1e9), sessionDuration: below(600_000) },
    }
  })
}

export function post(
  url: string,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
}
