/**
 * Whether a host that does not answer is asked again. Closed: it is asked. After `failures` connection-level failures in
 * a row it opens: nobody asks until a back-off with full jitter has passed, then one probe does (half-open). A probe that
 * is answered closes the circuit, one that fails opens it for longer. Pure: state and time in, state out.
 */
export interface CircuitPolicy {
  /** Failures in a row that open it, 1 or more. */
  readonly failures: number
  /** The longest first back-off; it doubles with each probe that fails. */
  readonly baseMs: number
  /** No back-off is longer. */
  readonly maxMs: number
}

export interface Circuit {
  /** Failures in a row while closed. */
  readonly failures: number
  /** How often in a row it opened; 0 is closed. */
  readonly openings: number
  /** Nobody asks before this time, while open. */
  readonly openUntil: number
  /** When the first failure of this row came; undefined when the last thing known of the host is good. */
  readonly failingSince: number | undefined
  /** A probe is under way. */
  readonly probing: boolean
}

export const closed: Circuit = Object.freeze({
  failures: 0,
  openings: 0,
  openUntil: 0,
  failingSince: undefined,
  probing: false,
})

export type CircuitState = 'closed' | 'open' | 'half-open'

export function circuitState({ openings, probing }: Circuit): CircuitState {
  if (openings === 0) return 'closed'
  return probing ? 'half-open' : 'open'
}

/** Who may ask now: anyone, one probe, or nobody before a time (while a probe is under way, a guess of its end). */
export function mayAsk(circuit: Circuit, now: number, policy: CircuitPolicy): 'anyone' | 'probe' | { until: number } {
  if (circuit.openings === 0) return 'anyone'
  if (circuit.probing) return { until: now + longestBackoff(circuit.openings, policy) }
  return now >= circuit.openUntil ? 'probe' : { until: circuit.openUntil }
}

/** A probe is sent. */
export function probing(circuit: Circuit): Circuit {
  return { ...circuit, probing: true }
}

/** A probe ended with no verdict about the host (it was cancelled): the next to come is the probe. */
export function unprobed(circuit: Circuit): Circuit {
  return { ...circuit, probing: false }
}

/**
 * A connection-level failure. While the circuit is open, only the probe's counts: the others were sent before it opened.
 * @param random gives numbers in [0, 1).
 */
export function failed(
  circuit: Circuit,
  probe: boolean,
  now: number,
  random: () => number,
  policy: CircuitPolicy,
): Circuit {
  if (circuit.openings > 0 && !probe) return circuit
  const failures = circuit.failures + 1
  const failingSince = circuit.failingSince ?? now
  if (circuit.openings === 0 && failures < policy.failures) return { ...circuit, failures, failingSince }
  const openings = circuit.openings + 1
  const openUntil = now + Math.max(1, Math.round(random() * longestBackoff(openings, policy)))
  return { failures, openings, openUntil, failingSince, probing: false }
}

const longestBackoff = (openings: number, { baseMs, maxMs }: CircuitPolicy): number =>
  Math.min(maxMs, baseMs * 2 ** (openings - 1))
