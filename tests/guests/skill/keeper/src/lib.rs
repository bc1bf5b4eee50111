//! `keeper`: what a skill can keep, and where.

midplane_sdk::skill!(Keeper);

use std::fmt::Debug;

use wasi::config::store as config;
use wasi::filesystem::preopens;
use wasi::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasi::keyvalue::store::{self, Bucket};
use wasi::keyvalue::{atomics, batch};

struct Keeper;

fn text(error: impl Debug) -> String {
    format!("{error:?}")
}

fn open(bucket: &str) -> Result<Bucket, String> {
    store::open(bucket).map_err(text)
}

fn directory(name: &str) -> Result<Descriptor, String> {
    let found = preopens::get_directories().into_iter().find(|(_, seen)| seen == name);
    found.map(|(directory, _)| directory).ok_or_else(|| format!("no {name} here"))
}

impl Guest for Keeper {
    fn configured() -> Vec<(String, String)> {
        let mut all = config::get_all().expect("there is a configuration");
        all.sort();
        for (key, value) in &all {
            assert_eq!(config::get(key).expect("as before").as_ref(), Some(value));
        }
        assert_eq!(config::get("there is no such key").expect("as before"), None);
        all
    }

    fn put(bucket: String, key: String, value: Vec<u8>) -> Result<(), String> {
        open(&bucket)?.set(&key, &value).map_err(text)
    }

    fn get(bucket: String, key: String) -> Result<Option<Vec<u8>>, String> {
        let bucket = open(&bucket)?;
        let value = bucket.get(&key).map_err(text)?;
        assert_eq!(bucket.exists(&key).map_err(text)?, value.is_some());
        Ok(value)
    }

    fn delete(bucket: String, key: String) -> Result<(), String> {
        open(&bucket)?.delete(&key).map_err(text)
    }

    fn keys(bucket: String) -> Result<Vec<String>, String> {
        let bucket = open(&bucket)?;
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = bucket.list_keys(cursor).map_err(text)?;
            all.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    fn count(bucket: String, key: String, by: u64) -> Result<u64, String> {
        atomics::increment(&open(&bucket)?, &key, by).map_err(text)
    }

    fn fill(bucket: String, count: u32, size: u32) -> Result<(), String> {
        let entry = |number| (format!("fill-{number}"), vec![0; size as usize]);
        batch::set_many(&open(&bucket)?, &(0..count).map(entry).collect::<Vec<_>>()).map_err(text)
    }

    fn many(bucket: String, keys: Vec<String>) -> Result<Vec<Option<(String, Vec<u8>)>>, String> {
        let bucket = open(&bucket)?;
        let values = batch::get_many(&bucket, &keys).map_err(text)?;
        batch::delete_many(&bucket, &keys).map_err(text)?;
        Ok(values)
    }

    fn directories() -> Vec<String> {
        preopens::get_directories().into_iter().map(|(_, seen)| seen).collect()
    }

    fn read(name: String, path: String) -> Result<String, String> {
        let (links, none) = (PathFlags::SYMLINK_FOLLOW, OpenFlags::empty());
        let file = directory(&name)?.open_at(links, &path, none, DescriptorFlags::READ).map_err(text)?;
        let (bytes, _) = file.read(1 << 16, 0).map_err(text)?;
        String::from_utf8(bytes).map_err(text)
    }

    fn write(name: String, path: String, words: String) -> Result<(), String> {
        let (links, open) = (PathFlags::SYMLINK_FOLLOW, OpenFlags::CREATE | OpenFlags::TRUNCATE);
        let file = directory(&name)?.open_at(links, &path, open, DescriptorFlags::WRITE).map_err(text)?;
        file.write(words.as_bytes(), 0).map_err(text)?;
        Ok(())
    }

    fn link(name: String, old: String, new: String) -> Result<(), String> {
        let directory = directory(&name)?;
        directory.link_at(PathFlags::empty(), &old, &directory, &new).map_err(text)
    }

    fn symlink(name: String, old: String, new: String) -> Result<(), String> {
        directory(&name)?.symlink_at(&old, &new).map_err(text)
    }

    fn rename(name: String, old: String, new: String) -> Result<(), String> {
        let directory = directory(&name)?;
        directory.rename_at(&old, &directory, &new).map_err(text)
    }

    fn unlink(name: String, path: String) -> Result<(), String> {
        directory(&name)?.unlink_file_at(&path).map_err(text)
    }
}
