/*
 * Loads koffi's binary. Its package for this processor is a dependency of its own, without koffi's package around it: that one only
 * looks for the binary, and it has an install script, of which npm warns.
 */
import { createRequire } from 'node:module'
import type * as KoffiModule from 'koffi'
import { LoamError } from '../errors/index.ts'
import { ownExecutable } from './executable.ts'

export type Koffi = typeof KoffiModule

let loaded: Koffi | undefined

/** Returns koffi, which calls functions of C libraries. @throws UNSUPPORTED_SYSTEM */
export function loadKoffi(): Koffi {
  loaded ??= load()
  return loaded
}

function load(): Koffi {
  try {
    const binary =
      ownExecutable()?.load('koffi') ?? createRequire(import.meta.url)(`@koromix/koffi-linux-${process.arch}`)
    return binary as Koffi
  } catch (error) {
    throw new LoamError('UNSUPPORTED_SYSTEM', `load koffi for ${process.arch}: ${String(error)}`, {
      cause: error,
      hint: 'Install the package again on this machine, with its optional dependencies: they have a binary for x64 and one for arm64.',
    })
  }
}
