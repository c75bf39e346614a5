// VitePress's own theme with the system's fonts: nothing is loaded from elsewhere.
import { useData } from 'vitepress'
import DefaultTheme from 'vitepress/theme-without-fonts'
import { nextTick, onMounted, watch } from 'vue'
import './style.css'

/** Screen readers jump to the main content, and the first page of VitePress does not name it. */
function nameContent() {
  document.querySelector('.VPHome')?.setAttribute('role', 'main')
}

export default {
  extends: DefaultTheme,
  setup() {
    const { page } = useData()
    onMounted(nameContent)
    watch(page, () => nextTick(nameContent))
  },
}
