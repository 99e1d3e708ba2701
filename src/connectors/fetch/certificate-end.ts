import type { DetailedPeerCertificate, TLSSocket } from 'node:tls'

/** Certificates of a chain that are looked at. */
const longestChain = 10

/**
 * When the first of a server's certificates ends, in milliseconds since the epoch: its own or one of those between it and the
 * root, which alone is left out, since every machine has its own. Undefined where the server showed none.
 */
export function certificateEnd(socket: TLSSocket): number | undefined {
  let certificate: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true)
  const ends: number[] = []
  while (certificate?.valid_to !== undefined && ends.length < longestChain) {
    const issuer: DetailedPeerCertificate | undefined = certificate.issuerCertificate
    const isRoot = issuer === certificate || issuer?.fingerprint256 === certificate.fingerprint256
    const end = Date.parse(certificate.valid_to)
    if (Number.isFinite(end) && (ends.length === 0 || !isRoot)) ends.push(end)
    if (isRoot) break
    certificate = issuer
  }
  return ends.length === 0 ? undefined : Math.min(...ends)
}
