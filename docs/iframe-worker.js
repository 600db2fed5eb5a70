// Browsers refuse workers on pages opened from the file system, and the search is one: run it in a hidden frame there.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inside = frame.contentWindow
      this.inside.postMessage = data => {
        const event = new MessageEvent("message", { data })
        this.dispatchEvent(event)
        this.onmessage?.(event)
      }
      const script = this.inside.document.createElement("script")
      script.src = new URL(url, location.href).href
      this.loaded = new Promise(resolve => script.addEventListener("load", resolve))
      this.inside.document.body.append(script)
    }
    postMessage(data) {
      this.loaded.then(() => {
        const event = new this.inside.MessageEvent("message", { data })
        this.inside.dispatchEvent(event)
        this.inside.onmessage?.(event)
      })
    }
    terminate() { this.inside.frameElement.remove() }
  }
}
