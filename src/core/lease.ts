/**
 * How the holder of a lease behaves, in parts of the lease. Others may take what it covers once the lease has lapsed, so
 * whoever cannot renew it must have ended its work before. The holder counts from when it asked for the last renewal
 * that was granted, which is before the server began to count.
 */
export interface LeaseTimes {
  /** After a renewal was granted. */
  readonly renewAfterMs: number
  /** After one that failed. */
  readonly tryAgainMs: number
  /** Longest wait for the answer of one: enough for two tries before the lease is in doubt. */
  readonly answerMs: number
  /** Since the last renewal was asked for that was granted: from here on nothing is begun and all work is told to stop. */
  readonly doubtAfterMs: number
  /** How long work has to stop by itself; then there is still some of the lease left to end it by force. */
  readonly graceMs: number
}

export function leaseTimes(leaseMs: number): LeaseTimes {
  const part = (share: number) => Math.max(1, Math.floor(leaseMs * share))
  return {
    renewAfterMs: part(0.25),
    tryAgainMs: part(0.05),
    answerMs: part(0.2),
    doubtAfterMs: part(0.7),
    graceMs: part(0.15),
  }
}
