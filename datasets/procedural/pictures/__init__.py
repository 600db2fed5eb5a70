"""Pictures and volumes with exact truth, drawn as they are asked for: people, faces and retinas."""
