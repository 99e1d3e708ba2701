/** Why a database cannot be reached or used, told from what its server, the network or the driver said: first fit first. */
import { fail, type Told, traceOf } from './finding.ts'

interface DatabaseFault {
  readonly code?: RegExp
  readonly text?: RegExp
  readonly why: string
  readonly fix: string
}

const url = 'SLUICE_DATABASE_URL'

/** SQLSTATEs, codes of the system and of TLS, and what the driver says without a code. */
const faults: readonly DatabaseFault[] = [
  {
    code: /^28P01$/,
    why: 'the server refuses this user or this password',
    fix: `correct the user and the password in ${url} (characters such as @ and / are written %40 and %2F there)`,
  },
  {
    text: /client password must be a string|no password supplied/,
    why: `the server wants a password, and ${url} has none`,
    fix: `write it into ${url}: postgresql://user:password@host:port/database`,
  },
  {
    code: /^28000$/,
    text: /no encryption|SSL off|hostssl/,
    why: 'no rule of the server (pg_hba.conf) lets this user in without TLS',
    fix: `add ?sslmode=verify-full to ${url}, with &sslrootcert=FILE for an authority of your own; if that is refused too, add a line for this user, database and address to pg_hba.conf`,
  },
  {
    code: /^28000$/,
    text: /role "[^"]*" does not exist/,
    why: 'the server has no such user',
    fix: `correct the user in ${url}, or make it: create role NAME login password '...'`,
  },
  {
    code: /^28000$/,
    why: 'the rules of the server (pg_hba.conf) do not let this user in from here',
    fix: 'add a line for this user, database and address to pg_hba.conf, and reload the server',
  },
  {
    code: /^3D000$/,
    why: 'the server has no database of this name',
    fix: `correct the name in ${url}, or make it: create database NAME`,
  },
  {
    text: /server does not support SSL/,
    why: `${url} demands TLS, and the server offers none`,
    fix: `take sslmode out of ${url}, or turn ssl on in the server`,
  },
  {
    code: /SELF_SIGNED_CERT|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|ERR_TLS_CERT_ALTNAME|CERT_HAS_EXPIRED/,
    why: 'the certificate of the server is not one that this machine trusts for that name',
    fix: `name the authority: &sslrootcert=FILE in ${url}; or use the name that the certificate has`,
  },
  {
    code: /^(ENOTFOUND|EAI_AGAIN)$/,
    why: 'no machine of this name is known',
    fix: `correct the host in ${url}, or see to the name service`,
  },
  {
    code: /^ECONNREFUSED$/,
    why: 'the machine is there, and nothing listens on this port',
    fix: `start the server, or correct the port in ${url} (PostgreSQL's own is 5432)`,
  },
  {
    code: /^(EHOSTUNREACH|ENETUNREACH|ETIMEDOUT)$/,
    text: /timeout|timed out/i,
    why: 'nothing answers there: the host is down, or a firewall swallows the connection',
    fix: `correct the host and the port in ${url}, or let this machine through to it`,
  },
  {
    code: /^(EHOSTUNREACH|ENETUNREACH|ETIMEDOUT)$/,
    why: 'there is no way to this host from here',
    fix: `correct the host in ${url}, or see to the network`,
  },
  {
    text: /timeout exceeded|timeout expired|due to connection timeout/,
    why: 'nothing answers there: the host is down, a firewall swallows the connection, or it is no PostgreSQL',
    fix: `correct the host and the port in ${url}, or let this machine through to it`,
  },
  {
    code: /^(ENAMETOOLONG|EINVAL)$/,
    why: 'the path of a socket has 107 bytes at most',
    fix: 'let the server put its socket into a folder with a shorter path (unix_socket_directories)',
  },
  {
    code: /^ENOENT$/,
    why: 'there is no socket of a server in this folder',
    fix: `start the server, or correct the folder in ${url} (?host=FOLDER) and the port, which is in the name of the socket`,
  },
  { code: /^EACCES$/, why: 'this user may not open the socket', fix: 'let this user into the folder of the socket' },
  {
    code: /^53300$/,
    why: 'all connections that the server allows are taken',
    fix: 'raise max_connections, or end what holds them; Sluice takes 48 at most, and 14 more for each further shard process',
  },
  { code: /^57P0[1-4]$/, why: 'the server is starting or stopping', fix: 'wait until it is up, then ask again' },
  {
    text: /Connection terminated|unexpected message|Unknown authenticationOk|invalid response/i,
    why: 'what answers on this port breaks off: it is no PostgreSQL, or it went away',
    fix: `correct the port in ${url}`,
  },
]

/** Codes and text must both fit where both are given. */
export function databaseFault(thrown: unknown): Told {
  const { text, codes } = traceOf(thrown)
  const found = faults.find(
    (fault) =>
      (fault.code === undefined || codes.some((code) => fault.code!.test(code))) && (fault.text?.test(text) ?? true),
  )
  const [detail = ''] = text.split('\n')
  return found
    ? fail(detail, found.why, found.fix)
    : fail(detail, 'the server or the driver says so', `see that ${url} is right and that its server runs`)
}
