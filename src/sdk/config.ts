/** The project's own settings, `sluice.config.ts`. Secrets and addresses of a deployment belong in the environment. */
export interface ProjectConfig {
  /** Globs of definition files, relative to the project. Default `['workflows/*.ts', 'workflows/*.yaml', 'workflows/*.yml']`. */
  readonly definitions?: readonly string[]
  /** Settings of named connections; `SLUICE_CONNECTION_<NAME>` (JSON) overrides one. */
  readonly connections?: Readonly<Record<string, { readonly kind: string; readonly [setting: string]: unknown }>>
}

export function defineConfig(config: ProjectConfig): ProjectConfig {
  return config
}
