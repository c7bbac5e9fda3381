"""Does the file system under a folder keep the promises that the store relies on?"""
