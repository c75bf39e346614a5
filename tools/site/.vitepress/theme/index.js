// VitePress's own theme with the system's fonts: nothing is loaded from elsewhere.
import DefaultTheme from 'vitepress/theme-without-fonts'
import './style.css'

export default DefaultTheme
