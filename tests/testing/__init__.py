"""The scripted server that users test with: what it promises, against lochws and against another's client."""
