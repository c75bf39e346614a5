import { render } from 'preact'
import { token } from './api.ts'
import { Frame } from './frame.tsx'
import { watch } from './live.ts'
import { followPartialLayers, refreshStore, version } from './state.ts'

const page = document.querySelector('#page')
if (page !== null) render(<Frame />, page)
if (token.value !== undefined) {
  void version.refresh()
  void refreshStore()
  void watch()
  followPartialLayers()
}
