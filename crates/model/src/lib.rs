//! Model manifests and families: from raw outputs to detections and attributes.
